"""What the providers say and how they say it: verify, parse, send. Enter through `providers.<name>`.

An adapter turns its provider's dialect into the shared types of `providers.base`. It opens no database session, knows
no state machine of ours and no other provider.
"""

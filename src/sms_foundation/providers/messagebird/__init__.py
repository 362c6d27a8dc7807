"""MessageBird's dialect (the SMS API at rest.messagebird.com): send, look up, verify and parse webhooks.

Enter through `adapter`. Facts and sources stand beside the code they explain.
"""

"""A Twilio that runs here: signed webhooks, a generated crowd, and a stand-in for the Collections Monitor.

Enter through `app.build_app` (served beside the service) or `commands.build_commands` (the command line). The road of a
text is `account` (which event) -> `forms` (its parameters) -> `delivery` (signed HTTP, retries, fallback) -> `answers`
(what Twilio makes of the reply) -> `journal`. What the service sends to Twilio by REST belongs in a folder `rest/` over
the same `SimulatedAccount`. Knows nothing of the service's tables: it speaks HTTP to it, as Twilio does.
"""

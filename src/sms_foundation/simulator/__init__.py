"""Providers that run here: signed webhooks, REST APIs, phones, a generated crowd, a stand-in Collections Monitor.

Enter through `app.build_app` (served beside the service) or `commands.build_commands` (the command line). A text to the
service: `account` (which event) -> `forms` (its parameters) -> `delivery` (signed HTTP, retries, fallback) -> `answers`
(what Twilio makes of the reply) -> `journal`. A text from it: `rest` (a provider's dialect) -> `faults` (what may go
wrong) -> `carrier` (travels, arrives, reports, true record). Knows nothing of the service's tables: it speaks HTTP.
"""

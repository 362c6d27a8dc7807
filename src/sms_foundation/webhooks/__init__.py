"""The HTTP edge that providers call: authenticate, parse, store, answer.

Owns no table. Enter through `router.webhook_routes`. What happens to a message is decided in `messaging`.
"""

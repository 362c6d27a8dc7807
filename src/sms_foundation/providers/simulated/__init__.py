"""The provider of messages that were asked for with a test key.

It is in every process without being configured, takes part in no routing, has no rate, no health and no webhooks, and
sends nothing to anybody. Enter at `adapter`.
"""

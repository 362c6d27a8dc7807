"""Telnyx's dialect (the messaging API, version 2): send, ask, verify and parse webhooks.

Enter through `adapter`. Facts and sources stand beside the code they explain.
"""

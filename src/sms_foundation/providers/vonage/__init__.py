"""Vonage's dialect (the SMS API at rest.nexmo.com): send, verify and parse webhooks.

Enter through `adapter`. Facts and sources stand beside the code they explain.
"""

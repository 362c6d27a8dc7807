"""Twilio's dialect: send, look up and redact messages, verify webhooks and parse them into our types.

Enter through `adapter`. Facts and sources stand beside the code they explain.
"""

from sms_foundation.providers.twilio.signature import sign, verify_signature

__all__ = ["sign", "verify_signature"]

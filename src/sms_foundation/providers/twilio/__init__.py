"""Twilio's dialect: verify a webhook, parse it into our types. Facts and sources stand beside the code they explain."""

from sms_foundation.providers.twilio.signature import sign, verify_signature

__all__ = ["sign", "verify_signature"]

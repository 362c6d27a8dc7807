"""The webhooks in the API document; they are plain ASGI routes, so FastAPI cannot describe them."""

from collections.abc import Sequence
from typing import Any

from sms_foundation.providers.base import Provider
from sms_foundation.webhooks.router import sms_path, status_path

_ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorEnvelope"}}}
_TWIML = {"text/xml": {"schema": {"type": "string"}, "example": '<?xml version="1.0" encoding="UTF-8"?><Response/>'}}


def _responses(reply: dict[str, Any]) -> dict[str, Any]:
    return {
        "200": {"description": "Committed, or known already", "content": reply},
        "400": {"description": "A field that must be there is missing", "content": _ERROR},
        "403": {"description": "The signature or the account is not ours", "content": _ERROR},
        "413": {"description": "The body is too large", "content": _ERROR},
        "415": {"description": "The body is of another type", "content": _ERROR},
        "503": {"description": "Nothing was stored; send it again", "content": _ERROR},
    }


def _twilio(summary: str, description: str, fields: dict[str, str], required: list[str]) -> dict[str, Any]:
    properties = {name: {"type": "string", "examples": [example]} for name, example in fields.items()}
    form = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": {"type": "string"},
    }
    return {
        "post": {
            "tags": ["webhooks"],
            "summary": summary,
            "description": description,
            "parameters": [
                {"name": "X-Twilio-Signature", "in": "header", "required": True, "schema": {"type": "string"}}
            ],
            "requestBody": {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": form}}},
            "responses": _responses(_TWIML),
        }
    }


_TWILIO_SMS = _twilio(
    "Inbound message (Twilio)",
    "Called by Twilio for every text that comes in; answered after the commit.",
    {
        "MessageSid": "SM" + "0" * 32,
        "AccountSid": "AC" + "0" * 32,
        "From": "+14155550123",
        "To": "+15005550006",
        "Body": "Hola, no hay agua",
        "NumMedia": "0",
        "NumSegments": "1",
    },
    ["MessageSid", "From"],
)
_TWILIO_STATUS = _twilio(
    "Status callback (Twilio)",
    "Called by Twilio whenever a message moves on; any order, any number of times.",
    {"MessageSid": "SM" + "0" * 32, "MessageStatus": "delivered", "ErrorCode": "30003"},
    ["MessageSid", "MessageStatus"],
)


def webhook_paths(providers: Sequence[Provider]) -> dict[str, Any]:
    """Return the entries of all providers' webhooks in the API document."""
    paths: dict[str, Any] = {}
    for provider in providers:
        is_twilio = provider.kind == "twilio"
        paths[sms_path(provider.name)] = _TWILIO_SMS if is_twilio else _other(provider, "Inbound message")
        paths[status_path(provider.name)] = _TWILIO_STATUS if is_twilio else _other(provider, "Delivery report")
    return paths


def _other(provider: Provider, summary: str) -> dict[str, Any]:
    operation = {
        "tags": ["webhooks"],
        "summary": f"{summary} ({provider.name})",
        "description": f"Called by {provider.kind} in its own, signed form; answered after the commit.",
        "responses": _responses({provider.webhook_shape.reply.content_type: {"schema": {"type": "string"}}}),
    }
    return {method.lower(): operation for method in sorted(provider.webhook_shape.methods)}

"""Twilio's webhooks in the API document; they are plain ASGI routes, so FastAPI cannot describe them."""

from typing import Any

from sms_foundation.webhooks.router import SMS_PATH, STATUS_PATH

_ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorEnvelope"}}}
_TWIML = {"text/xml": {"schema": {"type": "string"}, "example": '<?xml version="1.0" encoding="UTF-8"?><Response/>'}}


def _operation(summary: str, description: str, fields: dict[str, str], required: list[str]) -> dict[str, Any]:
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
            "responses": {
                "200": {"description": "Committed, or known already: empty TwiML", "content": _TWIML},
                "400": {"description": "A field that must be there is missing", "content": _ERROR},
                "403": {"description": "The signature or the account is not ours", "content": _ERROR},
                "413": {"description": "The body is too large", "content": _ERROR},
                "415": {"description": "The body is no urlencoded form", "content": _ERROR},
                "503": {"description": "Nothing was stored; send it again", "content": _ERROR},
            },
        }
    }


WEBHOOK_PATHS: dict[str, Any] = {
    SMS_PATH: _operation(
        "Inbound message",
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
    ),
    STATUS_PATH: _operation(
        "Status callback",
        "Called by Twilio whenever a message moves on; any order, any number of times.",
        {"MessageSid": "SM" + "0" * 32, "MessageStatus": "delivered", "ErrorCode": "30003"},
        ["MessageSid", "MessageStatus"],
    ),
}

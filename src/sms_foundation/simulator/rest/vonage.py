"""Vonage's SMS API: send, always answered 200; delivery receipts with a signature among their parameters.

Served under `PREFIX` in place of https://rest.nexmo.com.
Source: https://developer.vonage.com/en/api/sms and /en/getting-started/concepts/signing-messages
(November 2026, untried live).
"""

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode
from uuid import uuid4

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sms_foundation.core.errors import ValidationError
from sms_foundation.core.local_accounts import (
    LOCAL_VONAGE_API_KEY,
    LOCAL_VONAGE_API_SECRET,
    LOCAL_VONAGE_SIGNATURE_METHOD,
    LOCAL_VONAGE_SIGNATURE_SECRET,
)
from sms_foundation.providers.vonage.signature import sign
from sms_foundation.simulator.carrier.carrier import Carrier
from sms_foundation.simulator.carrier.messages import Message, Stage
from sms_foundation.simulator.carrier.receipts import Receipt
from sms_foundation.simulator.journal import Delivery, EventKind
from sms_foundation.simulator.rest.addresses import from_digits, to_digits
from sms_foundation.simulator.rest.callbacks import Callback, CallbackSender
from sms_foundation.simulator.rest.gate import pass_gate

PROVIDER: Final = "vonage"
PREFIX: Final = "/vonage/"

_MAX_BODY_LENGTH: Final = 3200
_PRICE: Final = "0.03330000"
_NETWORK: Final = "310004"
_FORM: Final = "application/x-www-form-urlencoded"
_STATUSES: Final[Mapping[Stage, str]] = {
    Stage.SENT: "accepted",
    Stage.DELIVERED: "delivered",
    Stage.UNDELIVERED: "failed",
    Stage.FAILED: "rejected",
}
# https://api.support.vonage.com/hc/en-us/articles/204014733 (`err-code` of a receipt)
_FAILURES: Final[Mapping[int, int]] = {30003: 2, 30004: 4, 30005: 5, 30006: 12, 30007: 6, 30008: 99}


class VonageRefusals:
    """How Vonage says no: with a status inside a 200, except where something in front of it fails."""

    def rate_limited(self, retry_after_s: int | None) -> Response:
        headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        return _refuse("1", "Throughput Rate Exceeded - please wait [ 250 ] and retry", headers)

    def server_error(self, status: int) -> Response:
        return Response(orjson.dumps({"title": "Internal Error"}), status, media_type="application/json")

    def account_suspended(self) -> Response:
        return _refuse("8", "Partner account barred")

    def opted_out(self) -> Response:
        return _refuse("7", "Number barred")


class VonageApi:
    """Serves the local account."""

    def __init__(self, carrier: Carrier, callbacks: CallbackSender) -> None:
        self._carrier = carrier
        self._callbacks = callbacks
        self._refusals = VonageRefusals()

    def list_routes(self) -> list[Route]:
        return [Route(PREFIX + "sms/json", self.create, methods=["POST"])]

    async def create(self, request: Request) -> Response:
        """200 with a status for every part; the message is on its way when they are "0"."""
        fields = _read_fields(request, await request.body())
        if (fields.get("api_key"), fields.get("api_secret")) != (LOCAL_VONAGE_API_KEY, LOCAL_VONAGE_API_SECRET):
            return _refuse("4", "Bad Credentials")
        try:
            recipient = from_digits(fields.get("to", "").removeprefix("+"))
        except ValidationError:
            recipient = None
        return await pass_gate(
            self._carrier,
            self._refusals,
            lambda: self._create(fields, recipient),
            provider=PROVIDER,
            number=recipient,
            operation="send",
        )

    async def report(self, receipt: Receipt) -> bool:
        """Deliver the receipts of all parts, the first last. False: try all of them again later."""
        message = receipt.message
        for part_id in reversed(_part_ids(message)):
            pairs = _receipt_pairs(receipt, part_id)
            callback = _callback(message, message.callback_url or "", pairs, status=_STATUSES.get(receipt.stage))
            if not (await self._callbacks.deliver(callback)).is_delivered:
                return False
        return True

    async def hand_in(self, message: Message, url: str) -> Delivery:
        """Deliver a phone's text to the inbound webhook at `url`."""
        pairs = [
            ("msisdn", to_digits(message.sender)),
            ("to", to_digits(message.recipient)),
            ("messageId", message.id),
            ("text", message.body),
            ("type", "unicode" if message.encoding == "UCS-2" else "text"),
            ("keyword", message.body.partition(" ")[0].upper()),
            *_stamps(message.accepted_at),
        ]
        return await self._callbacks.deliver(_callback(message, url, pairs))

    def _create(self, fields: Mapping[str, str], recipient: str | None) -> Response:
        for name in ("from", "to", "text"):
            if not fields.get(name):
                return _refuse("2", f"Missing {name} param")
        if recipient is None:
            return _refuse("3", "Invalid to param")
        if len(fields["text"]) > _MAX_BODY_LENGTH:
            return _refuse("12", "Message too long")
        try:
            sender = from_digits(fields["from"].removeprefix("+"))
        except ValidationError:
            return _refuse("15", "Illegal Sender Address - rejected")
        message = Message(
            provider=PROVIDER,
            id=new_message_id(),
            sender=sender,
            recipient=recipient,
            body=fields["text"],
            reference=fields.get("client-ref") or None,
            callback_url=fields.get("callback") or None,
        )
        self._carrier.accept(message)
        parts = [
            {
                "to": to_digits(recipient),
                "message-id": part_id,
                "status": "0",
                "remaining-balance": "100.00000000",
                "message-price": _PRICE,
                "network": _NETWORK,
                **({"client-ref": message.reference} if message.reference else {}),
            }
            for part_id in _part_ids(message)
        ]
        return _json({"message-count": str(len(parts)), "messages": parts})


def new_message_id() -> str:
    return secrets.token_hex(8).upper()


def _read_fields(request: Request, body: bytes) -> dict[str, str]:
    if request.headers.get("content-type", "").startswith(_FORM):
        return dict(parse_qsl(body.decode("ascii", "replace"), errors="replace"))
    try:
        fields: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return {name: str(value) for name, value in fields.items()} if isinstance(fields, dict) else {}


def _part_ids(message: Message) -> list[str]:
    """Every part of a long text has an id of its own; the first one's is the message's."""
    return [message.id, *(f"{message.id}-{part}" for part in range(2, message.num_segments + 1))]


def _receipt_pairs(receipt: Receipt, part_id: str) -> list[tuple[str, str]]:
    message = receipt.message
    failure = 0 if receipt.error_code is None else _FAILURES.get(receipt.error_code, 99)
    pairs = [
        ("msisdn", to_digits(message.recipient)),
        ("to", to_digits(message.sender)),
        ("network-code", _NETWORK),
        ("messageId", part_id),
        ("price", _PRICE),
        ("status", _STATUSES.get(receipt.stage, "unknown")),
        ("scts", receipt.at.strftime("%y%m%d%H%M")),
        ("err-code", str(failure)),
        *_stamps(receipt.at),
    ]
    return [*pairs, ("client-ref", message.reference)] if message.reference else pairs


def _stamps(at: datetime) -> list[tuple[str, str]]:
    return [
        ("api-key", LOCAL_VONAGE_API_KEY),
        ("message-timestamp", at.strftime("%Y-%m-%d %H:%M:%S")),
        ("timestamp", str(int(at.timestamp()))),
        ("nonce", str(uuid4())),
    ]


def _callback(message: Message, url: str, pairs: list[tuple[str, str]], status: str | None = None) -> Callback:
    signature = sign(LOCAL_VONAGE_SIGNATURE_SECRET, LOCAL_VONAGE_SIGNATURE_METHOD, pairs)
    return Callback(
        kind=EventKind.TEXT if message.is_inbound else EventKind.STATUS,
        message_id=message.id,
        sender=message.sender,
        recipient=message.recipient,
        status=status,
        url=url,
        headers={"Content-Type": _FORM, "User-Agent": "Nexmo/MessagingHUB/v1.0"},
        body=urlencode([*pairs, ("sig", signature)]).encode(),
    )


def _refuse(status: str, text: str, headers: Mapping[str, str] | None = None) -> Response:
    return _json({"message-count": "1", "messages": [{"status": status, "error-text": text}]}, headers)


def _json(content: object, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), 200, headers, "application/json")

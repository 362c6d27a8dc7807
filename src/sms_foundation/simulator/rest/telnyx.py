"""Telnyx's messaging API, version 2: send and fetch; events signed with Ed25519.

Served under `PREFIX` in place of https://api.telnyx.com.
Source: https://developers.telnyx.com/docs/messaging/messages/send-message and /receiving-webhooks
(November 2026, untried live).
"""

import base64
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sms_foundation.core.errors import ValidationError
from sms_foundation.core.local_accounts import LOCAL_TELNYX_API_KEY, LOCAL_TELNYX_PRIVATE_SEED
from sms_foundation.simulator.carrier.carrier import Carrier
from sms_foundation.simulator.carrier.messages import Message, Stage
from sms_foundation.simulator.carrier.receipts import Receipt
from sms_foundation.simulator.faults.rules import Operation
from sms_foundation.simulator.journal import Delivery, EventKind
from sms_foundation.simulator.numbers import parse_address
from sms_foundation.simulator.rest.callbacks import Callback, CallbackSender
from sms_foundation.simulator.rest.gate import pass_gate

PROVIDER: Final = "telnyx"
PREFIX: Final = "/telnyx/"

_MAX_PARTS: Final = 10
_COST_PER_PART: Final = 0.004
_STATUSES: Final[Mapping[Stage, str]] = {
    Stage.SCHEDULED: "scheduled",
    Stage.QUEUED: "queued",
    Stage.SENT: "sent",
    Stage.DELIVERED: "delivered",
    Stage.UNDELIVERED: "delivery_failed",
    Stage.FAILED: "sending_failed",
    Stage.CANCELED: "cancelled",
}
# https://developers.telnyx.com/docs/messaging/messages/error-codes
_FAILURES: Final[Mapping[int, str]] = {
    30003: "40006",
    30004: "40012",
    30005: "40008",
    30006: "40001",
    30007: "40002",
    30008: "40006",
}
_find_reference = re.compile(r"[?&]ref=([^&#]*)").search


class TelnyxRefusals:
    """How Telnyx says no."""

    def rate_limited(self, retry_after_s: int | None) -> Response:
        headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        return _refuse(429, "10011", "Too many requests", headers=headers)

    def server_error(self, status: int) -> Response:
        return _refuse(status, "10007", "Unexpected error")

    def account_suspended(self) -> Response:
        return _refuse(403, "20012", "Account inactive")

    def opted_out(self) -> Response:
        return _refuse(400, "40300", "Blocked due to STOP message", "/to")


class TelnyxApi:
    """Serves the local account."""

    def __init__(self, carrier: Carrier, callbacks: CallbackSender) -> None:
        self._carrier = carrier
        self._callbacks = callbacks
        self._refusals = TelnyxRefusals()
        self._key = Ed25519PrivateKey.from_private_bytes(LOCAL_TELNYX_PRIVATE_SEED)

    def list_routes(self) -> list[Route]:
        return [
            Route(PREFIX + "v2/messages", self.create, methods=["POST"]),
            Route(PREFIX + "v2/messages/{message_id}", self.fetch, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        """200 with the message; it is on its way."""
        fields = _read_json(await request.body())
        recipient = _address(fields.get("to"))
        return await self._answer(request, "send", recipient, lambda: self._create(fields, recipient))

    async def fetch(self, request: Request) -> Response:
        def show() -> Response:
            message = self._carrier.messages.find(PROVIDER, request.path_params["message_id"])
            return _refuse(404, "10005", "Resource not found") if message is None else _show(message)

        return await self._answer(request, "read", None, show)

    async def report(self, receipt: Receipt) -> bool:
        """Deliver an event: `message.sent`, then `message.finalized`. False: try again later."""
        event_type = "message.sent" if receipt.stage is Stage.SENT else "message.finalized"
        payload = _resource(receipt.message, receipt.stage, receipt.error_code)
        delivery = await self._callbacks.deliver(
            self._callback(
                receipt.message,
                receipt.message.callback_url or "",
                _event(event_type, receipt.at, payload, attempt=receipt.tries + 1),
                status=_STATUSES.get(receipt.stage),
            )
        )
        return delivery.is_delivered

    async def hand_in(self, message: Message, url: str) -> Delivery:
        """Deliver a phone's text to the inbound webhook at `url`."""
        payload = _resource(message, message.stage, None)
        event = _event("message.received", message.accepted_at, payload, attempt=1)
        return await self._callbacks.deliver(self._callback(message, url, event))

    def _callback(self, message: Message, url: str, event: bytes, status: str | None = None) -> Callback:
        return Callback(
            kind=EventKind.TEXT if message.is_inbound else EventKind.STATUS,
            message_id=message.id,
            sender=message.sender,
            recipient=message.recipient,
            status=status,
            url=url,
            headers=self._sign(event),
            body=event,
        )

    def _sign(self, body: bytes) -> dict[str, str]:
        timestamp = str(int(self._carrier.timing.now().timestamp()))
        signature = self._key.sign(timestamp.encode() + b"|" + body)
        return {
            "Content-Type": "application/json",
            "User-Agent": "telnyx-webhooks",
            "telnyx-signature-ed25519": base64.b64encode(signature).decode(),
            "telnyx-timestamp": timestamp,
        }

    async def _answer(
        self, request: Request, operation: Operation, number: str | None, answer: Callable[[], Response]
    ) -> Response:
        if request.headers.get("authorization") != f"Bearer {LOCAL_TELNYX_API_KEY}":
            return _refuse(401, "10009", "Authentication failed")
        return await pass_gate(
            self._carrier, self._refusals, answer, provider=PROVIDER, number=number, operation=operation
        )

    def _create(self, fields: Mapping[str, Any], recipient: str | None) -> Response:
        if "to" not in fields:
            return _refuse(400, "10004", "Missing required parameter", "/to")
        if recipient is None:
            return _refuse(400, "10002", "Invalid phone number", "/to")
        sender, profile = _address(fields.get("from")), fields.get("messaging_profile_id")
        if sender is None and not profile:
            return _refuse(400, "10004", "Missing required parameter", "/from")
        text, media_urls = fields.get("text") or "", fields.get("media_urls") or []
        if not isinstance(text, str) or not isinstance(media_urls, list) or not (text or media_urls):
            return _refuse(400, "10004", "Missing required parameter", "/text")
        url = fields.get("webhook_url")
        callback_url = url if isinstance(url, str) and url else None
        reference = _find_reference(callback_url or "")
        message = Message(
            provider=PROVIDER,
            id=new_message_id(),
            sender=sender or "",
            recipient=recipient,
            body=text,
            media_urls=tuple(str(each) for each in media_urls),
            reference=reference[1] if reference else None,
            callback_url=callback_url,
            profile=str(profile) if profile else None,
        )
        message.count_segments()
        if message.num_segments > _MAX_PARTS:
            return _refuse(400, "40302", "Message too large", "/text")
        if self._carrier.opt_outs.has(recipient, message.sender):
            return self._refusals.opted_out()
        self._carrier.accept(message)
        return _show(message)


def new_message_id() -> str:
    return str(uuid4())


def _read_json(body: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _address(value: object) -> str | None:
    try:
        return parse_address(value) if isinstance(value, str) else None
    except ValidationError:
        return None


def _event(event_type: str, at: datetime, payload: Mapping[str, object], *, attempt: int) -> bytes:
    data = {
        "event_type": event_type,
        "id": str(uuid4()),
        "occurred_at": _iso(at),
        "payload": payload,
        "record_type": "event",
    }
    return orjson.dumps({"data": data, "meta": {"attempt": attempt}})


def _resource(message: Message, stage: Stage, error_code: int | None) -> dict[str, object]:
    failure = None if error_code is None else _FAILURES.get(error_code, "40006")
    return {
        "record_type": "message",
        "direction": "inbound" if message.is_inbound else "outbound",
        "id": message.id,
        "type": "MMS" if message.media_urls else "SMS",
        "messaging_profile_id": message.profile,
        "from": {"phone_number": message.sender, "carrier": "", "line_type": ""},
        "to": [{"phone_number": message.recipient, "status": _STATUSES.get(stage), "carrier": "", "line_type": ""}],
        "text": message.body,
        "media": [{"url": url, "content_type": None} for url in message.media_urls],
        "webhook_url": message.callback_url,
        "webhook_failover_url": None,
        "encoding": message.encoding,
        "parts": message.num_segments,
        "tags": [],
        "cost": {"amount": f"{_COST_PER_PART * message.num_segments:.4f}", "currency": "USD"},
        "received_at": _iso(message.accepted_at),
        "sent_at": None if message.sent_at is None else _iso(message.sent_at),
        "completed_at": _iso(message.updated_at) if stage.is_final else None,
        "valid_until": None,
        "errors": [] if failure is None else [{"code": failure, "title": "Delivery failed"}],
    }


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def _show(message: Message) -> Response:
    return _json({"data": _resource(message, message.stage, message.error_code)})


def _refuse(
    status: int, code: str, title: str, pointer: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    source = {} if pointer is None else {"source": {"pointer": pointer}}
    return _json({"errors": [{"code": code, "title": title, "detail": title, **source}]}, status, headers)


def _json(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, "application/json")

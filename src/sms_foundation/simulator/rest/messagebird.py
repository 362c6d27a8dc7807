"""MessageBird's SMS API: send, fetch, list; status reports signed with a token about the URL.

Served under `PREFIX` in place of https://rest.messagebird.com.
Source: https://developers.messagebird.com/api/sms-messaging/ and /api/#verifying-http-requests
(November 2026, untried live).
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode
from uuid import uuid4

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sms_foundation.core.errors import ValidationError
from sms_foundation.core.local_accounts import LOCAL_MESSAGEBIRD_ACCESS_KEY, LOCAL_MESSAGEBIRD_SIGNING_KEY
from sms_foundation.simulator.carrier.carrier import Carrier
from sms_foundation.simulator.carrier.messages import Message, Stage
from sms_foundation.simulator.carrier.receipts import Receipt
from sms_foundation.simulator.faults.rules import Operation
from sms_foundation.simulator.journal import Delivery, EventKind
from sms_foundation.simulator.rest.addresses import from_digits, to_digits
from sms_foundation.simulator.rest.callbacks import Callback, CallbackSender
from sms_foundation.simulator.rest.gate import pass_gate

PROVIDER: Final = "messagebird"
PREFIX: Final = "/messagebird/"

_MAX_BODY_LENGTH: Final = 1377
_MAX_LIMIT: Final = 200
_TOKEN_LIFE_S: Final = 60
_TOKEN_HEADER: Final = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}')
_STATUSES: Final[Mapping[Stage, str]] = {
    Stage.SCHEDULED: "scheduled",
    Stage.QUEUED: "sent",
    Stage.SENT: "sent",
    Stage.DELIVERED: "delivered",
    Stage.UNDELIVERED: "delivery_failed",
    Stage.FAILED: "delivery_failed",
    Stage.CANCELED: "expired",
}
# The numbers of GSM MAP: https://docs.bird.com, "SMS platform extended error codes".
_FAILURES: Final[Mapping[int, int]] = {30003: 27, 30004: 13, 30005: 1, 30006: 9, 30007: 21, 30008: 34}


class MessageBirdRefusals:
    """How MessageBird says no."""

    def rate_limited(self, retry_after_s: int | None) -> Response:
        headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        return _refuse(429, 21, "too many requests", headers=headers)

    def server_error(self, status: int) -> Response:
        return _refuse(status, 99, "internal error")

    def account_suspended(self) -> Response:
        return _refuse(401, 2, "Request not allowed (incorrect access_key)", "access_key")

    def opted_out(self) -> Response:
        return _refuse(422, 10, "recipient is blacklisted", "recipients")


class MessageBirdApi:
    """Serves the local account. One recipient per message, as the service sends them."""

    def __init__(self, carrier: Carrier, callbacks: CallbackSender) -> None:
        self._carrier = carrier
        self._callbacks = callbacks
        self._refusals = MessageBirdRefusals()

    def list_routes(self) -> list[Route]:
        return [
            Route(PREFIX + "messages", self.create, methods=["POST"]),
            Route(PREFIX + "messages", self.list, methods=["GET"]),
            Route(PREFIX + "messages/{message_id}", self.fetch, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        """201 with the message; it is on its way."""
        fields = _read_json(await request.body())
        recipient = _recipient(fields)
        return await self._answer(request, "send", recipient, lambda: self._create(fields, recipient))

    async def fetch(self, request: Request) -> Response:
        def show() -> Response:
            message = self._carrier.messages.find(PROVIDER, request.path_params["message_id"])
            return _refuse(404, 20, "message not found") if message is None else _show(message)

        return await self._answer(request, "read", None, show)

    async def list(self, request: Request) -> Response:
        return await self._answer(request, "read", None, lambda: self._list(request.query_params))

    async def report(self, receipt: Receipt) -> bool:
        """Deliver a status report: a GET whose URL is signed. False: try again later."""
        message = receipt.message
        failure = None if receipt.error_code is None else _FAILURES.get(receipt.error_code)
        query = {
            "id": message.id,
            "reference": message.reference or "",
            "recipient": to_digits(message.recipient),
            "status": _STATUSES.get(receipt.stage, "sent"),
            "statusDatetime": receipt.at.isoformat(timespec="seconds"),
            **({} if failure is None else {"statusReason": "carrier error", "statusErrorCode": str(failure)}),
        }
        url = (message.callback_url or "").partition("#")[0]
        url += ("&" if "?" in url else "?") + urlencode(query)
        delivery = await self._callbacks.deliver(
            Callback(
                kind=EventKind.STATUS,
                message_id=message.id,
                sender=message.sender,
                recipient=message.recipient,
                status=query["status"],
                method="GET",
                url=url,
                headers=self._sign(url),
            )
        )
        return delivery.is_delivered

    async def hand_in(self, message: Message, url: str) -> Delivery:
        """Deliver a phone's text to the inbound webhook at `url`."""
        body = urlencode(
            {
                "id": message.id,
                "originator": to_digits(message.sender),
                "recipient": to_digits(message.recipient),
                "body": message.body,
                "createdDatetime": message.accepted_at.isoformat(timespec="seconds"),
            }
        ).encode()
        return await self._callbacks.deliver(
            Callback(
                kind=EventKind.TEXT,
                message_id=message.id,
                sender=message.sender,
                recipient=message.recipient,
                url=url,
                headers={**self._sign(url, body), "Content-Type": "application/x-www-form-urlencoded"},
                body=body,
            )
        )

    def _sign(self, url: str, body: bytes = b"") -> dict[str, str]:
        now = int(self._carrier.timing.now().timestamp())
        claims = {
            "iss": "MessageBird",
            "nbf": now,
            "exp": now + _TOKEN_LIFE_S,
            "jti": str(uuid4()),
            "url_hash": hashlib.sha256(url.encode()).hexdigest(),
        }
        if body:
            claims["payload_hash"] = hashlib.sha256(body).hexdigest()
        return {"MessageBird-Signature-JWT": _token(claims), "User-Agent": "MessageBird"}

    async def _answer(
        self, request: Request, operation: Operation, number: str | None, answer: Callable[[], Response]
    ) -> Response:
        if request.headers.get("authorization") != f"AccessKey {LOCAL_MESSAGEBIRD_ACCESS_KEY}":
            return self._refusals.account_suspended()
        return await pass_gate(
            self._carrier, self._refusals, answer, provider=PROVIDER, number=number, operation=operation
        )

    def _create(self, fields: Mapping[str, Any], recipient: str | None) -> Response:
        for name in ("originator", "body"):
            if not isinstance(fields.get(name), str) or not fields[name]:
                return _refuse(422, 9, f"{name} is required", name)
        if recipient is None:
            return _refuse(422, 9 if "recipients" not in fields else 10, "no (correct) recipients found", "recipients")
        if len(fields["body"]) > _MAX_BODY_LENGTH:
            return _refuse(422, 10, "body is too long", "body")
        try:
            sender = from_digits(fields["originator"])
        except ValidationError:
            return _refuse(422, 10, "originator is invalid", "originator")
        reference, url = fields.get("reference"), fields.get("reportUrl")
        message = Message(
            provider=PROVIDER,
            id=new_message_id(),
            sender=sender,
            recipient=recipient,
            body=fields["body"],
            reference=reference if isinstance(reference, str) else None,
            # Without a reference MessageBird sends no status reports.
            callback_url=url if isinstance(url, str) and reference else None,
        )
        self._carrier.accept(message)
        return _show(message, 201)

    def _list(self, query: Mapping[str, str]) -> Response:
        offset, limit = _count(query.get("offset"), 0), min(_count(query.get("limit"), 20), _MAX_LIMIT)
        recipient = query.get("recipient")
        try:
            phone = from_digits(recipient) if recipient else None
        except ValidationError:
            return _refuse(422, 10, "recipient is invalid", "recipient")
        found = [
            message
            for message in self._carrier.messages.list_newest(
                PROVIDER, recipient=phone, reference=query.get("reference") or None
            )
            if query.get("direction") in (None, "", "mo" if message.is_inbound else "mt")
        ]
        page = found[offset : offset + limit]
        return _json(
            {
                "offset": offset,
                "limit": limit,
                "count": len(page),
                "totalCount": len(found),
                "links": {"first": None, "previous": None, "next": None, "last": None},
                "items": [_resource(message) for message in page],
            }
        )


def _token(claims: Mapping[str, object]) -> str:
    """Return `claims` as a JWT (RFC 7519) signed with HS256; by hand, at an eighth of what a library takes."""
    signed = _TOKEN_HEADER + b"." + _unpadded(orjson.dumps(claims))
    signature = hmac.digest(LOCAL_MESSAGEBIRD_SIGNING_KEY.encode(), signed, "sha256")
    return (signed + b"." + _unpadded(signature)).decode()


def _unpadded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def new_message_id() -> str:
    return secrets.token_hex(16)


def _read_json(body: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _recipient(fields: Mapping[str, Any]) -> str | None:
    """Return the one phone a message goes to; None when there is none, or more than one."""
    recipients = fields.get("recipients")
    if isinstance(recipients, str):
        recipients = recipients.split(",")
    if not isinstance(recipients, list) or len(recipients) != 1:
        return None
    try:
        return from_digits(str(recipients[0]).removeprefix("+"))
    except ValidationError:
        return None


def _count(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 9 else default


def _recipient_item(message: Message, stage: Stage) -> dict[str, object]:
    digits = to_digits(message.recipient)
    return {
        "recipient": int(digits) if digits.isdigit() else digits,
        "status": _STATUSES.get(stage, "sent"),
        "statusDatetime": message.updated_at.isoformat(timespec="seconds"),
        "messagePartCount": message.num_segments,
    }


def _resource(message: Message) -> dict[str, object]:
    stage = message.stage
    return {
        "id": message.id,
        "href": f"https://rest.messagebird.com/messages/{message.id}",
        "direction": "mo" if message.is_inbound else "mt",
        "type": "sms",
        "originator": to_digits(message.sender),
        "body": message.body,
        "reference": message.reference,
        "validity": None,
        "gateway": 0,
        "typeDetails": {},
        "datacoding": "unicode" if message.encoding == "UCS-2" else "plain",
        "mclass": 1,
        "scheduledDatetime": None,
        "createdDatetime": message.accepted_at.isoformat(timespec="seconds"),
        "recipients": {
            "totalCount": 1,
            "totalSentCount": 1,
            "totalDeliveredCount": int(stage is Stage.DELIVERED),
            "totalDeliveryFailedCount": int(stage is Stage.UNDELIVERED),
            "items": [_recipient_item(message, stage)],
        },
    }


def _show(message: Message, status: int = 200) -> Response:
    return _json(_resource(message), status)


def _refuse(
    status: int, code: int, description: str, parameter: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    return _json({"errors": [{"code": code, "description": description, "parameter": parameter}]}, status, headers)


def _json(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, "application/json")

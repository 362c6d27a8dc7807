"""Twilio's webhooks: `/webhook/twilio/sms` and `/webhook/twilio/status`.

Plain ASGI, in front of FastAPI: passing through it would cost as much as everything they do. They answer 200 only after
the commit, 4xx for what can never be accepted, 503 for what could not be stored now; a duplicate like the first one.
"""

from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

from starlette.background import BackgroundTask
from starlette.types import ASGIApp, Receive, Scope, Send

from sms_foundation.core.errors import (
    ForbiddenError,
    MethodNotAllowedError,
    SmsFoundationError,
    UnavailableError,
    ValidationError,
)
from sms_foundation.core.phone import canonical_address, mask
from sms_foundation.core.web.errors import as_public_error, error_response
from sms_foundation.core.work.queue import Work
from sms_foundation.messaging.delivery import ReceiptStore
from sms_foundation.messaging.ingest import MessageStore
from sms_foundation.providers.errors import NotAuthenticError, WebhookParseError
from sms_foundation.providers.twilio.authenticity import (
    SIGNATURE_HEADER,
    SIGNATURE_SETTINGS_HEADER,
    TwilioAuthenticator,
)
from sms_foundation.providers.twilio.webhook import PROVIDER, Pairs, parse_form, parse_inbound, parse_status
from sms_foundation.webhooks.form import first_headers, read_form_body
from sms_foundation.webhooks.metrics import WEBHOOKS

SMS_PATH = "/webhook/twilio/sms"
STATUS_PATH = "/webhook/twilio/status"

# "No reply". Source: https://www.twilio.com/docs/messaging/twiml (an empty or JSON body is an error in Twilio's log).
_EMPTY_TWIML = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'
_TWIML_HEADERS = [(b"content-type", b"text/xml; charset=utf-8"), (b"content-length", str(len(_EMPTY_TWIML)).encode())]
_LogFields = dict[str, Any]
_counter = cache(WEBHOOKS.labels)


def webhook_routes(
    authenticator: TwilioAuthenticator,
    messages: MessageStore,
    receipts: ReceiptStore,
    *,
    run_soon: Callable[[Work], Awaitable[None]],
    max_bytes: int,
    default_region: str,
) -> dict[str, ASGIApp]:
    """Return Twilio's webhooks by path. `run_soon` is called, after the answer, with work this process holds."""

    async def store_message(pairs: Pairs, fields: _LogFields) -> tuple[str, BackgroundTask | None]:
        sms = parse_inbound(pairs)
        phone = canonical_address(sms.sender, default_region)
        fields.update(twilio_sid=sms.provider_message_id, phone=mask(phone))
        stored = await messages.store(sms, phone=phone)
        if stored.is_duplicate:
            return "duplicate", None
        return "stored", None if stored.work is None else BackgroundTask(run_soon, stored.work)

    async def apply_receipt(pairs: Pairs, fields: _LogFields) -> tuple[str, BackgroundTask | None]:
        report = parse_status(pairs)
        fields.update(twilio_sid=report.provider_message_id, delivery_status=report.event_status)
        return (await receipts.apply(report)).value, None

    return {
        SMS_PATH: _Webhook("sms", SMS_PATH, authenticator, store_message, max_bytes),
        STATUS_PATH: _Webhook("status", STATUS_PATH, authenticator, apply_receipt, max_bytes),
    }


class _Webhook:
    """One endpoint, an ASGI application: reads, authenticates, hands over to `accept`, answers, runs what is left."""

    def __init__(
        self,
        kind: str,
        path: str,
        authenticator: TwilioAuthenticator,
        accept: Callable[[Pairs, _LogFields], Awaitable[tuple[str, BackgroundTask | None]]],
        max_bytes: int,
    ) -> None:
        self.path = path  # the label of this route in logs and metrics
        self._kind = kind
        self._authenticator = authenticator
        self._accept = accept
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self
        state = scope["state"]
        fields: _LogFields = state["log"]
        background = None
        refusal: SmsFoundationError | None = None
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowedError("webhooks are POSTed", allowed="POST")
            pairs = await self._authentic_pairs(scope, receive)
            outcome, background = await self._accept(pairs, fields)
        except Exception as error:  # noqa: BLE001  # every failure has an answer, and none is a 500 by surprise
            outcome, refusal = _refusal(error)
        fields["outcome"] = outcome
        _counter(PROVIDER, self._kind, outcome).inc()
        if refusal is not None:
            await error_response(refusal, state["request_id"])(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": _TWIML_HEADERS})
        await send({"type": "http.response.body", "body": _EMPTY_TWIML})
        if background is not None:
            await background()

    async def _authentic_pairs(self, scope: Scope, receive: Receive) -> Pairs:
        headers = first_headers(scope)
        body = await read_form_body(headers, receive, limit_bytes=self._max_bytes)
        pairs = parse_form(body)
        self._authenticator.check(
            path_and_query=_path_and_query(scope),
            pairs=pairs,
            signature=headers.get(SIGNATURE_HEADER, b""),
            signature_settings=headers.get(SIGNATURE_SETTINGS_HEADER, b""),
        )
        return pairs


def _path_and_query(scope: Scope) -> str:
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    return (path + b"?" + query if query else path).decode("utf-8", "surrogateescape")


def _refusal(error: Exception) -> tuple[str, SmsFoundationError]:
    """Return the outcome label and the public error for whatever stopped a webhook."""
    match error:
        case NotAuthenticError(reason=reason):
            return reason, ForbiddenError("the webhook could not be verified")
        case WebhookParseError(reason=reason):
            return reason, ValidationError(str(error))
        case TimeoutError():
            return "timeout", UnavailableError("the database did not answer in time", retry_after_s=5)
    public = as_public_error(error)
    if public.status >= 500 and not isinstance(error, SmsFoundationError) and public.code == "sms.internal_error":
        # PostgreSQL refused this one message, or a defect of ours: ask for it again rather than lose it.
        return "failed", UnavailableError("the webhook could not be stored", retry_after_s=60)
    return public.code.removeprefix("sms."), public

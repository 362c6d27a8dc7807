"""The providers' webhooks: `/webhook/{provider}/sms` and `/webhook/{provider}/status`.

Plain ASGI, in front of FastAPI: passing through it would cost as much as everything they do. They answer 200 only after
the commit, 4xx for what can never be accepted, 503 for what could not be stored now; a duplicate like the first one.
"""

from collections.abc import Awaitable, Callable, Sequence
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
from sms_foundation.providers.base import Provider, WebhookRequest
from sms_foundation.providers.errors import NotAuthenticError, WebhookParseError
from sms_foundation.webhooks.body import first_headers, read_body
from sms_foundation.webhooks.metrics import WATCHED_OUTCOMES, WEBHOOKS

_LogFields = dict[str, Any]
_Accept = Callable[[WebhookRequest, _LogFields], Awaitable[tuple[str, BackgroundTask | None]]]
_counter = cache(WEBHOOKS.labels)


def sms_path(provider: str) -> str:
    """Return where texts that come in through `provider` arrive."""
    return f"/webhook/{provider}/sms"


def status_path(provider: str) -> str:
    """Return where `provider` reports what became of texts that went out."""
    return f"/webhook/{provider}/status"


def webhook_routes(
    providers: Sequence[Provider],
    messages: MessageStore,
    receipts: ReceiptStore,
    *,
    run_soon: Callable[[Work], Awaitable[None]],
    max_bytes: int,
    default_region: str,
) -> dict[str, ASGIApp]:
    """Return the webhooks of all `providers` by path. `run_soon` is called, after the answer, with work we hold."""
    routes: dict[str, ASGIApp] = {}
    for provider in providers:
        store_message = _storing(provider, messages, run_soon, default_region)
        path = sms_path(provider.name)
        routes[path] = _Webhook("sms", path, provider, store_message, max_bytes)
        path = status_path(provider.name)
        routes[path] = _Webhook("status", path, provider, _applying(provider, receipts), max_bytes)
    return routes


def _storing(
    provider: Provider, messages: MessageStore, run_soon: Callable[[Work], Awaitable[None]], default_region: str
) -> _Accept:
    async def store_message(request: WebhookRequest, fields: _LogFields) -> tuple[str, BackgroundTask | None]:
        sms = provider.read_inbound(request)
        phone = canonical_address(sms.sender, default_region)
        fields.update(twilio_sid=sms.provider_message_id, phone=mask(phone))
        stored = await messages.store(sms, phone=phone)
        if stored.is_duplicate:
            return "duplicate", None
        return "stored", None if stored.work is None else BackgroundTask(run_soon, stored.work)

    return store_message


def _applying(provider: Provider, receipts: ReceiptStore) -> _Accept:
    async def apply_receipt(request: WebhookRequest, fields: _LogFields) -> tuple[str, BackgroundTask | None]:
        report = provider.read_status(request)
        fields.update(twilio_sid=report.provider_message_id, delivery_status=report.event_status)
        return (await receipts.apply(report)).value, None

    return apply_receipt


class _Webhook:
    """One endpoint, an ASGI application: reads, hands over to `accept`, answers, runs what is left."""

    def __init__(self, kind: str, path: str, provider: Provider, accept: _Accept, max_bytes: int) -> None:
        self.path = path  # the label of this route in logs and metrics
        self._kind = kind
        self._provider = provider.name
        self._shape = provider.webhook_shape
        self._accept = accept
        self._max_bytes = max_bytes
        reply = self._shape.reply
        self._body = reply.body
        for outcome in WATCHED_OUTCOMES:
            _counter(provider.name, kind, outcome)
        self._headers = [
            (b"content-type", reply.content_type.encode()),
            (b"content-length", str(len(reply.body)).encode()),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self
        state = scope["state"]
        fields: _LogFields = state["log"]
        background = None
        refusal: SmsFoundationError | None = None
        try:
            outcome, background = await self._accept(await self._read(scope, receive), fields)
        except Exception as error:  # noqa: BLE001  # every failure has an answer, and none is a 500 by surprise
            outcome, refusal = _refusal(error)
        fields["outcome"] = outcome
        _counter(self._provider, self._kind, outcome).inc()
        if refusal is not None:
            await error_response(refusal, state["request_id"])(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._body})
        if background is not None:
            await background()

    async def _read(self, scope: Scope, receive: Receive) -> WebhookRequest:
        method = scope["method"]
        if method not in self._shape.methods:
            allowed = ", ".join(sorted(self._shape.methods))
            raise MethodNotAllowedError(f"this webhook is called by {allowed}", allowed=allowed)
        headers = first_headers(scope)
        body = b""
        if method != "GET":
            body = await read_body(
                headers, receive, content_types=self._shape.content_types, limit_bytes=self._max_bytes
            )
        return WebhookRequest(method, _path_and_query(scope), headers, body)


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

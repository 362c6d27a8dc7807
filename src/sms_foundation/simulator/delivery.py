"""Delivering a webhook the way Twilio does: signed, bounded in time, retried by policy, then the fallback URL.

Sources: https://www.twilio.com/docs/usage/security, https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides
(read November 2026).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Self
from urllib.parse import quote_plus, urlencode
from uuid import uuid4

import structlog

from sms_foundation.core.ids import new_id
from sms_foundation.core.phone import mask
from sms_foundation.providers.twilio.signature import sign
from sms_foundation.simulator.answers import Answer, Verdict
from sms_foundation.simulator.forms import Pairs
from sms_foundation.simulator.journal import Attempt, Delivery, EventKind
from sms_foundation.simulator.overrides import ConnectionOverrides, split_overrides
from sms_foundation.simulator.posting import NoAnswerError, Poster, authority_of, reroute, split_credentials
from sms_foundation.simulator.timing import Timing

_log = structlog.get_logger(__name__)

_quote = lru_cache(maxsize=2048)(quote_plus)  # all names, and most values, are those of the callback before

_CONTENT_TYPE = "application/x-www-form-urlencoded; charset=UTF-8"


@dataclass(frozen=True, slots=True)
class Event:
    """Something Twilio tells the service by webhook."""

    kind: EventKind
    message_sid: str
    sender: str
    recipient: str | None
    pairs: Pairs
    url: str
    """As configured at Twilio: may hold user:password@ and an override fragment."""
    judge: Callable[[Answer], Verdict]
    fallback_url: str | None = None
    message_status: str | None = None


class WebhookCourier:
    """Delivers events over one pool of connections; close it when done (it is an async context manager).

    URLs under `public_base_url` are signed as they are but delivered under `deliver_base_url`, with the public Host
    header: what a proxy in front of the service does. Proxies of the environment are ignored.
    """

    def __init__(
        self,
        *,
        auth_token: str,
        public_base_url: str,
        deliver_base_url: str,
        timing: Timing,
    ) -> None:
        self._auth_token = auth_token
        self._public_base_url = public_base_url.rstrip("/")
        self._deliver_base_url = deliver_base_url.rstrip("/")
        self._timing = timing
        self._poster = Poster()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._poster.close()

    async def deliver(self, event: Event, *, idempotency_token: str | None = None) -> Delivery:
        """Deliver `event` and return how it went; whatever the service answers, this does not raise.

        `idempotency_token` (default: a new one) is the same on every attempt. Raises UnicodeEncodeError for a parameter
        that no form can carry.
        """
        token = idempotency_token or str(uuid4())
        created_at = self._timing.now()
        tries = await self._try_url(event.url, event, token)
        if event.fallback_url and tries[-1][0].error_code is not None:
            tries += await self._try_url(event.fallback_url, event, token, is_fallback=True)
        delivery = Delivery(
            id=str(new_id()),
            kind=event.kind,
            message_sid=event.message_sid,
            message_status=event.message_status,
            sender=event.sender,
            recipient=event.recipient,
            idempotency_token=token,
            created_at=created_at,
            attempts=tuple(attempt for attempt, _ in tries),
            replies=tries[-1][1].replies,
        )
        _log_delivery(delivery)
        return delivery

    async def _try_url(
        self, url: str, event: Event, token: str, *, is_fallback: bool = False
    ) -> list[tuple[Attempt, Verdict]]:
        """Try one URL as often as its overrides allow within its total time; at least once."""
        url, overrides = split_overrides(url)
        deadline = self._timing.monotonic() + overrides.total_timeout_ms / 1000
        tries: list[tuple[Attempt, Verdict]] = []
        for _ in range(1 + overrides.retry_count):
            started_at, start = self._timing.now(), self._timing.monotonic()
            if tries and start >= deadline:
                break
            verdict, status_code = await self._request(url, event, token, overrides, budget_s=deadline - start)
            attempt = Attempt(
                url=split_credentials(url)[0],
                is_fallback=is_fallback,
                started_at=started_at,
                latency_ms=round((self._timing.monotonic() - start) * 1000, 3),
                status_code=status_code,
                error_code=verdict.code,
                reason=verdict.reason,
            )
            tries.append((attempt, verdict))
            if verdict.retry_on not in overrides.retry_policy:
                break
        return tries

    async def _request(
        self, url: str, event: Event, token: str, overrides: ConnectionOverrides, *, budget_s: float
    ) -> tuple[Verdict, int | None]:
        signed_url, credentials = split_credentials(url)
        delivered_url = reroute(signed_url, self._public_base_url, self._deliver_base_url)
        headers = {
            "User-Agent": "TwilioProxy/1.1",
            "Accept": "*/*",
            "Content-Type": _CONTENT_TYPE,
            "X-Twilio-Signature": sign(self._auth_token, signed_url, event.pairs),
            "I-Twilio-Idempotency-Token": token,
        }
        if delivered_url != signed_url:
            headers["Host"] = authority_of(signed_url)
        # surrogateescape: bytes of a command line that were no UTF-8 go out, and are signed, as they came
        body = urlencode(event.pairs, encoding="utf-8", errors="surrogateescape", quote_via=_quote).encode("ascii")
        try:
            answer = await self._poster.post(
                delivered_url, body, headers, overrides=overrides, budget_s=budget_s, credentials=credentials
            )
        except NoAnswerError as error:
            return error.verdict, None
        return event.judge(answer), answer.status_code


def _log_delivery(delivery: Delivery) -> None:
    log = _log.info if delivery.is_delivered else _log.warning
    log(
        "simulator.delivery.finished",
        kind=delivery.kind,
        twilio_sid=delivery.message_sid,
        message_status=delivery.message_status,
        sender=mask(delivery.sender),
        attempts=len(delivery.attempts),
        status_code=delivery.status_code,
        error_code=delivery.error_code,
        latency_ms=delivery.latency_ms,
    )

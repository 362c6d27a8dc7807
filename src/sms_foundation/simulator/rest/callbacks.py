"""Calling the service back, for the providers whose retries are their own business and not the URL's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from sms_foundation.core.ids import new_id
from sms_foundation.core.phone import mask
from sms_foundation.simulator.answers import Verdict, judge_callback
from sms_foundation.simulator.journal import Attempt, Delivery, DeliveryJournal, EventKind
from sms_foundation.simulator.overrides import ConnectionOverrides
from sms_foundation.simulator.posting import NoAnswerError, Poster, authority_of, reroute
from sms_foundation.simulator.settings import SimulatorSettings
from sms_foundation.simulator.timing import Timing

_log = structlog.get_logger(__name__)

_LIMITS: Final = ConnectionOverrides(connect_timeout_ms=5_000, read_timeout_ms=10_000, total_timeout_ms=15_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """One signed request to the service, ready as it is."""

    kind: EventKind
    message_id: str
    sender: str
    recipient: str
    status: str | None = None
    """The provider's word; None for a text that came in."""
    method: str = "POST"
    url: str
    """As the service gave it: used byte for byte, without its fragment."""
    headers: Mapping[str, str]
    body: bytes = b""


class CallbackSender:
    """Delivers callbacks over one pool of connections and enters them in the journal; close it when done."""

    def __init__(self, settings: SimulatorSettings, timing: Timing, journal: DeliveryJournal) -> None:
        self._public_base_url = settings.signed_base_url
        self._deliver_base_url = settings.service_url.rstrip("/")
        self._timing = timing
        self._journal = journal
        self._poster = Poster()

    async def close(self) -> None:
        await self._poster.close()

    async def deliver(self, callback: Callback) -> Delivery:
        """Send `callback` once and return how it went; any 2xx will do. Does not raise."""
        created_at, start = self._timing.now(), self._timing.monotonic()
        verdict, status_code = await self._request(callback)
        attempt = Attempt(
            url=callback.url,
            is_fallback=False,
            started_at=created_at,
            latency_ms=round((self._timing.monotonic() - start) * 1000, 3),
            status_code=status_code,
            error_code=verdict.code,
            reason=verdict.reason,
        )
        delivery = Delivery(
            id=str(new_id()),
            kind=callback.kind,
            message_sid=callback.message_id,
            message_status=callback.status,
            sender=callback.sender,
            recipient=callback.recipient,
            idempotency_token="",
            created_at=created_at,
            attempts=(attempt,),
        )
        self._journal.add(delivery)
        _log.info(
            "simulator.callback.finished",
            kind=callback.kind,
            provider_message_id=callback.message_id,
            message_status=callback.status,
            sender=mask(callback.sender),
            status_code=status_code,
            latency_ms=attempt.latency_ms,
        )
        return delivery

    async def _request(self, callback: Callback) -> tuple[Verdict, int | None]:
        url = callback.url.partition("#")[0]
        target = reroute(url, self._public_base_url, self._deliver_base_url)
        headers = callback.headers if target == url else {**callback.headers, "Host": authority_of(url)}
        try:
            answer = await self._poster.post(
                target,
                callback.body,
                headers,
                overrides=_LIMITS,
                budget_s=_LIMITS.total_timeout_ms / 1000,
                method=callback.method,
            )
        except NoAnswerError as error:
            return error.verdict, None
        return judge_callback(answer), answer.status_code

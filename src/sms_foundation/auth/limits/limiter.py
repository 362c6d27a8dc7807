"""Limits of clients and of the phones they text, counted over all instances by `core.rates`."""

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache

from sms_foundation.auth.limits.limit import Limit, parse_limit, whole_seconds
from sms_foundation.auth.limits.meter import Meter
from sms_foundation.auth.metrics import LIMITED
from sms_foundation.auth.principal import Principal
from sms_foundation.auth.refusals import Headers, RateLimitedError
from sms_foundation.core.clock import monotonic
from sms_foundation.core.phone import bare_number
from sms_foundation.core.rates.base import Denied, Take

_MOST_KEPT = 10_000


class Limiter:
    """Says who has to wait. A limit is text such as `100/1s` (`core.config.RateText`)."""

    def __init__(self, meter: Meter, *, client_limit: str, number_limit: str) -> None:
        self._meter = meter
        self._client_limit = client_limit
        self._number_limit = parse_limit(number_limit)
        # Clients that were refused, and when (monotonic) their next request passes: until then nobody is asked.
        self._over_until: OrderedDict[str, float] = OrderedDict()

    @property
    def limits_numbers(self) -> bool:
        """Tell whether there is a limit of messages to one number."""
        return self._number_limit is not None

    async def admit(self, principal: Principal, units: int = 1, *, already: int = 0) -> Headers:
        """Count `units` (>= 1) requests of a client; returns the RateLimit headers of its answer, none without a limit.

        `already`: how many were counted for this request before; it all passes, or none of `units` is counted. One that
        is larger than the limit passes when the client has used nothing. Raises RateLimitedError, with the same headers
        in `headers`; whoever comes back after its `retry_after_s` passes, if nobody else came meanwhile.
        """
        limit = parse_limit(self._client_limit if principal.limit is None else principal.limit)
        if limit is None:
            return ()
        if units > 1 or already:
            return await self._admit_several(limit, principal.client_id, units, already)
        take = _plain_take(limit.text, principal.client_id)
        self._check(limit, take.key)
        outcome = await self._meter.take("client", take)
        if outcome is None:
            return ()
        if isinstance(outcome, Denied):
            self._remember(take.key, monotonic() + outcome.wait_s)
            raise _client_error(limit, outcome.wait_s, limit.used_us(outcome))
        return limit.headers(limit.used_us(outcome))

    async def _admit_several(self, limit: Limit, client_id: str, units: int, already: int) -> Headers:
        outcome = await self._meter.take("client", limit.take(_client_key(client_id), units, already=already))
        if outcome is None:
            return ()
        used_us = limit.used_us(outcome, units, already=already)
        if isinstance(outcome, Denied):
            # It comes back whole: what was counted already is counted once more.
            raise _client_error(limit, outcome.wait_s + already * limit.interval_us / 1_000_000, used_us)
        return limit.headers(used_us)

    async def admit_numbers(self, messages: Sequence[tuple[str, bool]]) -> Sequence[RateLimitedError | None]:
        """Count each of `messages`, in one statement; None: go ahead, or the error for that one.

        A message is its recipient (a canonical address), and whether a test key sends it: those reach nobody, and are
        counted apart.
        """
        limit = self._number_limit
        if limit is None or not messages:
            return [None] * len(messages)
        outcomes = await self._meter.take_all("number", _number_takes(limit, messages))
        return [
            _number_error(limit, recipient, outcome) if isinstance(outcome, Denied) else None
            for (recipient, _), outcome in zip(messages, outcomes, strict=True)
        ]

    async def give_back_numbers(self, messages: Sequence[tuple[str, bool]], *, counted_at: float) -> None:
        """Count `messages` no more, which `admit_numbers` has let through at `counted_at` (monotonic)."""
        if self._number_limit is not None and messages:
            await self._meter.give_back(_number_takes(self._number_limit, messages), taken_at=counted_at)

    def _check(self, limit: Limit, key: str) -> None:
        """Raise RateLimitedError for a client of whom it is known that it has to wait."""
        until = self._over_until.get(key)
        if until is None:
            return
        if (wait_s := until - monotonic()) > 0:
            raise _client_error(limit, wait_s, limit.used_us(Denied(wait_s)))
        del self._over_until[key]

    def _remember(self, key: str, until: float) -> None:
        self._over_until[key] = until
        while len(self._over_until) > _MOST_KEPT:
            self._over_until.popitem(last=False)


def _client_key(client_id: str) -> str:
    return f"client:{client_id}"


@lru_cache(maxsize=_MOST_KEPT)
def _plain_take(limit: str, client_id: str) -> Take:
    """Return what a client's single request takes: always the same object, by which equal ones are found."""
    parsed = parse_limit(limit)
    assert parsed is not None  # noqa: S101  # whoever has no limit takes nothing
    return parsed.take(_client_key(client_id))


def _number_takes(limit: Limit, messages: Sequence[tuple[str, bool]]) -> list[Take]:
    return [limit.take(_number_key(recipient, is_test)) for recipient, is_test in messages]


def _number_key(recipient: str, is_test: bool) -> str:
    return f"{'test-number' if is_test else 'number'}:{bare_number(recipient)}"


def number_key_prefixes(recipient: str) -> list[str]:
    """Return what the keys of all limits of messages to `recipient` begin with, whatever limit they stand for."""
    return [f"{_number_key(recipient, is_test)}:" for is_test in (False, True)]


def _client_error(limit: Limit, wait_s: float, used_us: int) -> RateLimitedError:
    LIMITED.labels("client").inc()
    wait_whole_s = whole_seconds(wait_s)
    return RateLimitedError(
        f"over this client's limit of {limit.text} requests; there is room in {wait_whole_s} s",
        retry_after_s=wait_whole_s,
        headers=limit.headers(used_us),
    )


def _number_error(limit: Limit, recipient: str, outcome: Denied) -> RateLimitedError:
    LIMITED.labels("number").inc()
    wait_whole_s = whole_seconds(outcome.wait_s)
    return RateLimitedError(
        f"over the limit of {limit.text} messages to the number that ends in {recipient[-4:]}; "
        f"there is room in {wait_whole_s} s",
        retry_after_s=wait_whole_s,
        details={"retry_after_s": wait_whole_s},  # in a batch each message has its own
    )

"""Tries to log in, counted by the person they are for and the address they come from, and by the person alone."""

from hashlib import sha256

from sms_foundation.auth.address import group_of
from sms_foundation.auth.limits.limit import Limit, parse_limit, whole_seconds
from sms_foundation.auth.limits.meter import Meter
from sms_foundation.auth.metrics import AUTH_FAILURES, LIMITED
from sms_foundation.auth.refusals import RateLimitedError, Reason
from sms_foundation.core.rates.base import Denied, RatesUnavailableError

# Who guesses from many addresses is stopped by this; who only knows somebody's address of mail does not lock them out
# from one of their own.
_FROM_ANYWHERE = 10


class LoginLimit:
    """Counts tries to log in over all instances, whether they succeed or not, and whether there is such a person.

    The limit is for one person from one address (IPv6 addresses of one /64 count as one); from all addresses together
    ten times as many.
    """

    def __init__(self, meter: Meter, limit: str) -> None:
        self._meter = meter
        self._limit = parse_limit(limit)
        self._limit_from_anywhere = None if self._limit is None else _times(self._limit, _FROM_ANYWHERE)

    async def admit(self, email: str, address: str) -> None:
        """Count a try to log in as `email` from `address`. One that the address's own limit refuses counts no further.

        Raises RateLimitedError when it is one too many. Raises RatesUnavailableError when nobody can count: passwords
        are not to be guessed without a limit, and to log in a little later harms no message.
        """
        if self._limit is None or self._limit_from_anywhere is None:
            return
        # The cell of an address that anybody can type in must neither show it nor be as long as they like.
        digest = sha256(email.strip().lower().encode(errors="surrogatepass")).hexdigest()
        await self._count(self._limit, f"login:{digest}:{group_of(address)}")
        await self._count(self._limit_from_anywhere, f"login:{digest}")

    async def _count(self, limit: Limit, key: str) -> None:
        outcome = await self._meter.take("login", limit.take(key))
        if outcome is None:
            raise RatesUnavailableError("tries to log in cannot be counted now", retry_after_s=5)
        if isinstance(outcome, Denied):
            AUTH_FAILURES.labels(Reason.TOO_MANY_LOGINS).inc()
            LIMITED.labels("login").inc()
            raise RateLimitedError("too many tries to log in", retry_after_s=whole_seconds(outcome.wait_s))


def _times(limit: Limit, factor: int) -> Limit | None:
    return parse_limit(f"{factor * limit.count}/{limit.window_s}s")

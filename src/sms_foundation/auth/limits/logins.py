"""Tries to log in, counted by the person they are for, wherever they come from."""

from hashlib import sha256

from sms_foundation.auth.limits.limit import parse_limit, whole_seconds
from sms_foundation.auth.limits.meter import Meter
from sms_foundation.auth.metrics import AUTH_FAILURES, LIMITED
from sms_foundation.auth.refusals import RateLimitedError, Reason
from sms_foundation.core.rates.base import Denied, RatesUnavailableError


class LoginLimit:
    """Counts tries to log in over all instances, whether they succeed or not, and whether there is such a person."""

    def __init__(self, meter: Meter, limit: str) -> None:
        self._meter = meter
        self._limit = parse_limit(limit)

    async def admit(self, email: str) -> None:
        """Count a try to log in as `email`.

        Raises RateLimitedError when it is one too many. Raises RatesUnavailableError when nobody can count: passwords
        are not to be guessed without a limit, and to log in a little later harms no message.
        """
        if self._limit is None:
            return
        # The cell of an address that anybody can type in must neither show it nor be as long as they like.
        digest = sha256(email.strip().lower().encode(errors="surrogatepass")).hexdigest()
        outcome = await self._meter.reserve("login", self._limit.wish(f"login:{digest}"))
        if outcome is None:
            raise RatesUnavailableError("tries to log in cannot be counted now", retry_after_s=5)
        if isinstance(outcome, Denied):
            AUTH_FAILURES.labels(Reason.TOO_MANY_LOGINS).inc()
            LIMITED.labels("login").inc()
            raise RateLimitedError("too many tries to log in", retry_after_s=whole_seconds(outcome.wait_s))

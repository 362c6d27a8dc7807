"""Limits of requests and messages, counted over all instances by `core.rates`."""

from collections.abc import Sequence

from sms_foundation.auth.principal import Principal
from sms_foundation.auth.refusals import Headers


class Limiter:
    """STUB"""

    async def admit(self, principal: Principal, units: int = 1) -> Headers:
        """Count `units` (>= 1) requests of a client; returns the RateLimit headers of its answer, none without a limit.

        Raises RateLimitedError, with the same headers in `headers`.
        """
        return ()

    async def admit_numbers(self, recipients: Sequence[str]) -> list[float | None]:
        """Count a message to each of `recipients` (canonical); returns for each the seconds to wait, None: go ahead."""
        return [None for _ in recipients]

    async def close(self) -> None:
        """Wait until everybody asked for has an answer."""

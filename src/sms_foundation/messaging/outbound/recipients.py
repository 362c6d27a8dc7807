"""Who may be texted, and how often: asked for every message before it is stored."""

from collections.abc import Sequence

from sms_foundation.auth.limits.limiter import Limiter
from sms_foundation.auth.numbers.current import CurrentRules
from sms_foundation.auth.refusals import RateLimitedError
from sms_foundation.core.phone import mask
from sms_foundation.messaging.outbound.asked import SendRequest
from sms_foundation.messaging.outbound.errors import NumberNotAllowedError


class Recipients:
    """The rules for numbers, and the limit of messages to one number."""

    def __init__(self, rules: CurrentRules, limiter: Limiter) -> None:
        self._rules = rules
        self._limiter = limiter

    async def denials(self, recipients: Sequence[str]) -> list[NumberNotAllowedError | None]:
        """Return for each of `recipients` (canonical) what the rules have against it, or None."""
        rules = await self._rules.get()
        return [None if rules.decide(each).is_allowed else _not_allowed(each) for each in recipients]

    async def admit(self, requests: Sequence[SendRequest]) -> Sequence[RateLimitedError | None]:
        """Count a message to each number; returns what stands against those that are over the limit."""
        return await self._limiter.admit_numbers(_messages(requests))

    async def give_back(self, requests: Sequence[SendRequest], *, counted_at: float) -> None:
        """Count those no more that `admit` let through at `counted_at` (monotonic)."""
        await self._limiter.give_back_numbers(_messages(requests), counted_at=counted_at)


def _messages(requests: Sequence[SendRequest]) -> list[tuple[str, bool]]:
    return [(each.recipient, each.is_test) for each in requests]


def _not_allowed(recipient: str) -> NumberNotAllowedError:
    return NumberNotAllowedError("this number may not be texted", details={"number": mask(recipient)})

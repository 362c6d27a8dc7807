"""Who may be texted, and how often: asked for every message before it is stored."""

from collections.abc import Sequence

from sms_foundation.auth.limits.limiter import Limiter
from sms_foundation.auth.numbers.current import CurrentRules
from sms_foundation.auth.refusals import RateLimitedError
from sms_foundation.core.errors import SmsFoundationError
from sms_foundation.core.phone import mask
from sms_foundation.messaging.outbound.accept import SendRequest
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
        return await self._limiter.admit_numbers([(each.recipient, each.is_test) for each in requests])

    async def refusals(self, recipients: Sequence[str], *, is_test: bool) -> list[SmsFoundationError | None]:
        """Return for each of `recipients` what stands against a message to it, or None.

        What the rules allow counts against its number's limit. Takes connections of its own: not to be called within a
        transaction.
        """
        answers: list[SmsFoundationError | None] = [*await self.denials(recipients)]
        allowed = [index for index, answer in enumerate(answers) if answer is None]
        over = await self._limiter.admit_numbers([(recipients[index], is_test) for index in allowed])
        for index, error in zip(allowed, over, strict=True):
            answers[index] = error
        return answers


def _not_allowed(recipient: str) -> NumberNotAllowedError:
    return NumberNotAllowedError("this number may not be texted", details={"number": mask(recipient)})

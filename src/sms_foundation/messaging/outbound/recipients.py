"""Who may be texted, and how often: asked for every message before it is stored."""

from collections.abc import Sequence

from sms_foundation.auth.limits.limiter import Limiter
from sms_foundation.auth.numbers.current import CurrentRules
from sms_foundation.core.errors import SmsFoundationError
from sms_foundation.core.phone import mask
from sms_foundation.messaging.outbound.errors import NumberNotAllowedError


class Recipients:
    """The rules for numbers, and the limit of messages to one number."""

    def __init__(self, rules: CurrentRules, limiter: Limiter) -> None:
        self._rules = rules
        self._limiter = limiter

    async def refusals(self, recipients: Sequence[str], *, is_test: bool = False) -> list[SmsFoundationError | None]:
        """Return for each of `recipients` (canonical) what stands against a message to it, or None.

        A message that the rules allow counts against its number's limit; those over it are not counted. Takes
        connections of its own: not to be called within a transaction.
        """
        rules = await self._rules.get()
        answers: list[SmsFoundationError | None] = [
            None if rules.decide(each).is_allowed else _not_allowed(each) for each in recipients
        ]
        allowed = [index for index, answer in enumerate(answers) if answer is None]
        over = await self._limiter.admit_numbers([recipients[index] for index in allowed], is_test=is_test)
        for index, error in zip(allowed, over, strict=True):
            answers[index] = error
        return answers


def _not_allowed(recipient: str) -> NumberNotAllowedError:
    return NumberNotAllowedError("this number may not be texted", details={"number": mask(recipient)})

"""Who may be texted, and how often: asked for every message before it is stored."""

from collections.abc import Collection, Sequence

from sms_foundation.auth.limits.limiter import Limiter
from sms_foundation.auth.numbers.current import CurrentRules
from sms_foundation.auth.refusals import RateLimitedError
from sms_foundation.core.errors import StartupError
from sms_foundation.core.phone import country_of, is_country, is_phone_number, mask
from sms_foundation.messaging.outbound.asked import SendRequest
from sms_foundation.messaging.outbound.errors import NumberNotAllowedError


class Recipients:
    """The countries and the rules for numbers, and the limit of messages to one number. `countries` None: any."""

    def __init__(self, rules: CurrentRules, limiter: Limiter, *, countries: Collection[str] | None = None) -> None:
        self._rules = rules
        self._limiter = limiter
        self._countries = countries

    async def denials(self, recipients: Sequence[str]) -> list[NumberNotAllowedError | None]:
        """Return for each of `recipients` (canonical) what countries and rules have against it, or None."""
        rules = await self._rules.get()
        return [
            None if rules.decide(each).is_allowed and is_within(each, self._countries) else _not_allowed(each)
            for each in recipients
        ]

    async def admit(self, requests: Sequence[SendRequest]) -> Sequence[RateLimitedError | None]:
        """Count a message to each number; returns what stands against those that are over the limit."""
        return await self._limiter.admit_numbers(_messages(requests))

    async def give_back(self, requests: Sequence[SendRequest], *, counted_at: float) -> None:
        """Count those no more that `admit` let through at `counted_at` (monotonic)."""
        await self._limiter.give_back_numbers(_messages(requests), counted_at=counted_at)


def is_within(recipient: str, countries: Collection[str] | None) -> bool:
    """Tell whether a canonical address is of one of `countries`; None: of any.

    Short codes are of no country: whether they can be texted at all the providers' configuration says.
    """
    return countries is None or not is_phone_number(recipient) or country_of(recipient) in countries


def read_countries(text: str) -> frozenset[str] | None:
    """Read SENDING_COUNTRIES; None: any. Raises StartupError that names what is no country."""
    codes = frozenset(each.strip().upper() for each in text.split(",") if each.strip())
    if unknown := sorted(each for each in codes if not is_country(each)):
        raise StartupError(f"SENDING_COUNTRIES: no ISO 3166 code of a country: {', '.join(unknown)}")
    return codes or None


def _messages(requests: Sequence[SendRequest]) -> list[tuple[str, bool]]:
    return [(each.recipient, each.is_test) for each in requests]


def _not_allowed(recipient: str) -> NumberNotAllowedError:
    return NumberNotAllowedError("this number may not be texted", details={"number": mask(recipient)})

"""The tenants the stand-in knows, and how their numbers were typed in."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from sms_foundation.core.errors import NotFoundError
from sms_foundation.simulator.errors import ConflictError, UnsupportedLanguageError
from sms_foundation.simulator.numbers import CALLING_CODES
from sms_foundation.simulator.people import LANGUAGES, Language, Person, make_people

Spelling = Literal["e164", "digits_only", "country_stripped"]

SPELLINGS: tuple[Spelling, ...] = get_args(Spelling)

TENANT_COUNT = 300
TENANT_SEED = 2026
SECOND_NUMBERS = 30
"""So many tenants have a second phone."""

STRANGER_NUMBER = "+15125550199"
"""A phone that belongs to nobody here, for demonstrations; the made-up people never get it."""

_BUILDINGS = ("Maple Court", "Harbor View", "Las Palmas", "Stonegate", "Riverside Terrace", "The Alder")


@dataclass(slots=True)
class Tenant:
    """One household; `language` and the counter change while the stand-in runs."""

    tenant_id: str
    name: str
    building: str
    unit: str
    phone_numbers: tuple[str, ...]
    """As they were typed in: exactly what a lookup must ask for."""
    texts_from: str
    """E.164 form of the first number."""
    texts_in: Language | None
    """The language a generated crowd lets this tenant write in."""
    language: str | None = None
    """The language in the tenant's profile; None: not known yet."""
    language_updates: int = field(default=0)
    """How often the profile's language really changed; repeating a value does not count."""


def spell(number: str, spelling: Spelling) -> str:
    """Write an E.164 number as somebody typed it in."""
    if spelling == "e164":
        return number
    digits = number.removeprefix("+")
    if spelling == "digits_only":
        return digits
    return next((digits[len(code) :] for code in CALLING_CODES.values() if digits.startswith(code)), digits)


def make_tenants() -> list[Tenant]:
    """Return the made-up tenants, always the same; their numbers take turns in the spellings."""
    people = make_people(TENANT_COUNT + SECOND_NUMBERS, seed=TENANT_SEED)
    households, second_phones = people[:TENANT_COUNT], people[TENANT_COUNT:]
    return [
        _make_tenant(place, person, second_phones[place // 10].number if place % 10 == 0 else None)
        for place, person in enumerate(households)
    ]


def example_tenant() -> Tenant:
    """Return the first made-up tenant who texts in Spanish from an American phone, for demonstrations."""
    return next(each for each in make_tenants() if each.texts_in == "es" and each.texts_from.startswith("+1"))


def _make_tenant(place: int, person: Person, second_number: str | None) -> Tenant:
    numbers = [spell(person.number, SPELLINGS[place % len(SPELLINGS)])]
    if second_number is not None:
        numbers.append(spell(second_number, SPELLINGS[(place + 1) % len(SPELLINGS)]))
    return Tenant(
        tenant_id=f"tenant-{place + 1:04d}",
        name=person.name,
        building=_BUILDINGS[place % len(_BUILDINGS)],
        unit=f"{place // 24 + 1}{'ABCDEF'[place // 4 % 6]}",
        phone_numbers=tuple(numbers),
        texts_from=person.number,
        texts_in=person.language,
        # A third of the profiles already name a language, some of them the wrong one.
        language="en" if place % 3 == 0 else None,
    )


class TenantDirectory:
    """Tenants by id and by typed-in number."""

    def __init__(self, tenants: Iterable[Tenant] = ()) -> None:
        self._tenants: dict[str, Tenant] = {}
        self._by_number: dict[str, Tenant] = {}
        for tenant in tenants:
            self.add(tenant)

    def add(self, tenant: Tenant) -> None:
        """Add a tenant. Raises ConflictError when the id or one of the numbers is taken."""
        if tenant.tenant_id in self._tenants:
            raise ConflictError("a tenant with this id exists", details={"tenant_id": tenant.tenant_id})
        if any(number in self._by_number for number in tenant.phone_numbers):
            raise ConflictError("one of the phone numbers belongs to another tenant")
        self._tenants[tenant.tenant_id] = tenant
        self._by_number |= dict.fromkeys(tenant.phone_numbers, tenant)

    def find_by_number(self, typed: str) -> Tenant | None:
        """Return the tenant whose number was typed in exactly so."""
        return self._by_number.get(typed)

    def get(self, tenant_id: str) -> Tenant:
        """Raises NotFoundError."""
        tenant = self._tenants.get(tenant_id)
        if tenant is None:
            raise NotFoundError("no such tenant", details={"tenant_id": tenant_id})
        return tenant

    def list_tenants(self, *, language: str | None = None, offset: int = 0, limit: int | None = None) -> list[Tenant]:
        """Return tenants by age of entry; `language` is the one they text in."""
        fitting = [each for each in self._tenants.values() if language in (None, each.texts_in)]
        return fitting[offset : None if limit is None else offset + limit]

    def set_language(self, tenant_id: str, language: str) -> Tenant:
        """Remember the profile's language; repeating it changes nothing.

        Raises NotFoundError, and UnsupportedLanguageError for anything but en, es and pt.
        """
        if language not in LANGUAGES:
            raise UnsupportedLanguageError("the language must be en, es or pt", details={"languages": list(LANGUAGES)})
        tenant = self.get(tenant_id)
        if tenant.language != language:
            tenant.language = language
            tenant.language_updates += 1
        return tenant

    def __len__(self) -> int:
        return len(self._tenants)

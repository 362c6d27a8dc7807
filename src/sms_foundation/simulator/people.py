"""Made-up people with a language and a phone: the tenants of the stand-in and the strangers of a crowd."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from types import MappingProxyType
from typing import Literal

from sms_foundation.simulator.numbers import COUNTRIES, Country, fictional_number

Language = Literal["en", "es", "pt"]

LANGUAGES: tuple[Language, ...] = ("en", "es", "pt")

MAX_PEOPLE = 5_000
"""So many have numbers of their own in every country, whatever languages they drew."""

_LANGUAGE_WEIGHTS = (45, 40, 15)
# Where people who text in a language have their phones, as an American landlord sees it.
_COUNTRIES: Mapping[Language, tuple[Country, ...]] = MappingProxyType(
    {
        "en": ("US",),
        "es": ("US", "US", "US", "MX", "ES"),
        "pt": ("US", "US", "BR", "BR", "PT"),
    }
)
_GIVEN_NAMES: Mapping[Language, tuple[str, ...]] = MappingProxyType(
    {
        "en": (
            "Olivia", "Marcus", "Denise", "Tyrone", "Hannah", "Wesley", "Priya", "Caleb", "Monique", "Grant", "Abigail",
            "Darnell", "Kelsey", "Reggie", "Sofia", "Emmett", "Joy", "Preston", "Latoya", "Dylan",
        ),
        "es": (
            "Guadalupe", "Rubén", "Ximena", "Héctor", "Marisol", "Óscar", "Lucía", "Ramón", "Yolanda", "Joaquín",
            "Inés", "Andrés", "Belén", "Iván", "Concepción", "Martín", "Rocío", "Nicolás", "Verónica", "Álvaro",
        ),
        "pt": (
            "João", "Conceição", "Thiago", "Beatriz", "Luís", "Fernanda", "Gonçalo", "Raquel", "Vinícius", "Letícia",
            "Otávio", "Inês", "Caio", "Débora", "Sebastião", "Joana", "Murilo", "Patrícia", "Davi", "Simão",
        ),
    }
)  # fmt: skip
_FAMILY_NAMES: Mapping[Language, tuple[str, ...]] = MappingProxyType(
    {
        "en": (
            "Whitfield", "Okafor", "Bennett", "Caldwell", "Nguyen", "Harlow", "Jefferson", "Patel", "Sutton",
            "Kowalski", "Brooks", "Delaney", "Vance", "Mercer", "Tran",
        ),
        "es": (
            "Villanueva", "Cárdenas", "Ibáñez", "Montoya", "Peralta", "Zúñiga", "Rentería", "Olvera", "Bustos",
            "Quiñones", "Saldívar", "Arriaga", "Núñez", "Tovar", "Escamilla",
        ),
        "pt": (
            "Magalhães", "Furtado", "Assunção", "Teixeira", "Camargo", "Brandão", "Meireles", "Guimarães", "Valadares",
            "Nóbrega", "Seixas", "Couto", "Falcão", "Moura", "Paixão",
        ),
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    language: Language
    """The language this person texts in."""
    number: str
    """E.164; nobody else's."""


def make_people(total: int, *, seed: int) -> list[Person]:
    """Return `total` people (at most `MAX_PEOPLE`); one seed always makes the same ones, and the first n of any total.

    Raises ValueError for more than `MAX_PEOPLE`.
    """
    if total > MAX_PEOPLE:
        raise ValueError(f"at most {MAX_PEOPLE} people have numbers of their own, not {total}")
    chance = random.Random(seed)  # noqa: S311  # repeatable on purpose
    places = {country: count() for country in COUNTRIES}
    return [_make_person(chance, places) for _ in range(total)]


def _make_person(chance: random.Random, places: Mapping[Country, "count[int]"]) -> Person:
    (language,) = chance.choices(LANGUAGES, _LANGUAGE_WEIGHTS)
    country = chance.choice(_COUNTRIES[language])
    name = f"{chance.choice(_GIVEN_NAMES[language])} {chance.choice(_FAMILY_NAMES[language])}"
    return Person(name, language, fictional_number(country, next(places[country])))

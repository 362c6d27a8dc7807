"""Who texts what next: an endless, repeatable stream over many parallel conversations."""

import random
import unicodedata
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeVar, get_args

from sms_foundation.simulator.crowd.texts import CONVERSATIONS, EMOJI, FILLERS, NOISE, PHOTO_URLS, SINGLE_WORDS, Topic
from sms_foundation.simulator.monitor.tenants import SECOND_NUMBERS, TENANT_COUNT, TENANT_SEED
from sms_foundation.simulator.people import LANGUAGES, Language, Person, make_people
from sms_foundation.simulator.timing import Timing

Voice = Language | Literal["other"]
"""What a text is written in; `other` is noise, further languages, digits and emoji."""

VOICES: tuple[Voice, ...] = (*LANGUAGES, *get_args(Literal["other"]))
DEFAULT_MIX: Mapping[Voice, float] = MappingProxyType({"en": 0.42, "es": 0.37, "pt": 0.16, "other": 0.05})
DEFAULT_STRANGERS = 75

_SINGLE_WORD_SHARE = 0.18
_HURRIED_SHARE = 0.2
_EMOJI_SHARE = 0.1
_PHOTO_SHARE = 0.2  # of the texts about repairs

T = TypeVar("T")


class CrowdText(NamedTuple):
    """One text of the crowd."""

    sender: str
    """E.164."""
    body: str
    language: str
    """`en`, `es`, `pt`, or `unknown` for noise and other languages."""
    media_urls: tuple[str, ...] = ()


@dataclass(slots=True)
class _Speaker:
    person: Person
    topic: Topic = "leasing"
    lines: Sequence[str] = ()
    next_line: int = 0


def generate_crowd(
    seed: int, *, mix: Mapping[Voice, float] = DEFAULT_MIX, strangers: int = DEFAULT_STRANGERS
) -> Iterator[CrowdText]:
    """Yield texts without end; the same arguments always yield the same ones.

    `mix` weighs the languages (any positive scale; a missing one is silent). The speakers are the Collections Monitor's
    tenants and `strangers` (0 to 4,000) people it does not know. Each speaker's texts follow one conversation after
    the other, line by line. Raises ValueError when no language has weight.
    """
    voices = [voice for voice in VOICES if mix.get(voice, 0) > 0]
    if not voices:
        raise ValueError("the mix gives no language any weight")
    weights = [mix[voice] for voice in voices]
    chance = random.Random(seed)  # noqa: S311  # repeatable on purpose
    speakers = [_Speaker(person) for person in _crowd_people(strangers)]
    by_language = {language: [each for each in speakers if each.person.language == language] for language in LANGUAGES}
    while True:
        (voice,) = chance.choices(voices, weights)
        if voice == "other":
            yield CrowdText(chance.choice(speakers).person.number, chance.choice(NOISE), "unknown")
        else:
            yield _say_next(chance.choice(by_language[voice]), chance)


async def pace(items: Iterable[T], *, rate_per_s: float, timing: Timing) -> AsyncIterator[T]:
    """Yield `items` at `rate_per_s`, evenly; after a delay the missed ones follow at once, so the average holds."""
    start = timing.monotonic()
    for place, item in enumerate(items):
        wait_s = start + place / rate_per_s - timing.monotonic()
        if wait_s > 0:
            await timing.sleep(wait_s)
        yield item


def _crowd_people(strangers: int) -> list[Person]:
    # The first people of this seed are the stand-in's tenants, the next ones their second phones: known to it as well.
    known_phones = TENANT_COUNT + SECOND_NUMBERS
    people = make_people(known_phones + strangers, seed=TENANT_SEED)
    return people[:TENANT_COUNT] + people[known_phones:]


def _say_next(speaker: _Speaker, chance: random.Random) -> CrowdText:
    person = speaker.person
    if chance.random() < _SINGLE_WORD_SHARE:
        return CrowdText(person.number, chance.choice(SINGLE_WORDS[person.language]), person.language)
    if speaker.next_line >= len(speaker.lines):
        speaker.topic, speaker.lines = chance.choice(CONVERSATIONS[person.language])
        speaker.next_line = 0
    line = speaker.lines[speaker.next_line]
    speaker.next_line += 1
    body = _vary(line.format_map(_fill(person.language, chance)), chance)
    has_photo = speaker.topic == "repairs" and chance.random() < _PHOTO_SHARE
    return CrowdText(person.number, body, person.language, (chance.choice(PHOTO_URLS),) if has_photo else ())


def _fill(language: Language, chance: random.Random) -> dict[str, str]:
    return {name: chance.choice(values) for name, values in FILLERS[language].items()}


def _vary(body: str, chance: random.Random) -> str:
    """Write as people do: some in a hurry, without capitals and accents; some with an emoji."""
    if chance.random() < _HURRIED_SHARE:
        body = _without_accents(body).lower().rstrip(".!")
    if chance.random() < _EMOJI_SHARE:
        body = f"{body} {chance.choice(EMOJI)}"
    return body


def _without_accents(text: str) -> str:
    decomposed = unicodedata.normalize("NFD", text.replace("¿", "").replace("¡", ""))
    return unicodedata.normalize("NFC", "".join(char for char in decomposed if not unicodedata.combining(char)))

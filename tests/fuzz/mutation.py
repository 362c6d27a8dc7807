"""Requests as Twilio makes them, and what becomes of them when bytes change: the same seed, the same requests."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import orjson

from tests.support.service import Pairs, encode_form, status_form, text_form

_PIECES = (
    *(b"%00", b"%", b"%%", b"%4", b"%zz", b"%C3%28", b"%ED%A0%80", b"%F0%9F%98%80", b"%E2%80%AE", b"\xff", b"\xc3\xa9"),
    *(b"\0", b"&", b"&&", b"=", b"==", b"+", b" ", b";", b"\r\n", b"\\u0000", b"%5Cud800", b'"', b"'; --", b"A" * 400),
    *(b"NumMedia=10&", b"MediaUrl0=x&", b"&Body=", b"&MessageSid=SM1", b"&From=%2B14155550199", b"whatsapp%3A"),
    *(b"&MessageStatus=delivered", b"&ErrorCode=30003", b"&ErrorCode=0", b"99999999999999999999", b"-1", b"1e9"),
)
_STATUSES = (
    "queued",
    "sending",
    "sent",
    "delivered",
    "undelivered",
    "failed",
    "read",
    "accepted",
    "canceled",
    "nonsense",
)
_TEXTS = (
    "Hello",
    "",
    "¿Cuándo vienen? No hay agua",
    "🙂" * 70,
    "a\0b",
    "x" * 1600,
    "1\r\n2",
    "\udcff\udcfe",
    "+ & = %",
)


@dataclass(frozen=True)
class Mutant:
    """A request. `signed` is the body that its signature is for: this one, or what it was before the change."""

    path: str
    query: str
    body: bytes
    signed: bytes


def _vectors(lines: Sequence[bytes]) -> list[list[tuple[str, str]]]:
    """Return the parameters of published examples of signatures."""
    found = [orjson.loads(line) for line in lines]
    return [[(str(name), str(value)) for name, value in each["params"]] for each in found if each["kind"] == "form"]


class Mutator:
    """Makes mutants of texts and receipts; `vectors`: lines of further examples."""

    def __init__(self, seed: int, vectors: Sequence[bytes]) -> None:
        self._random = Random(seed)
        self._extra = _vectors(vectors)
        self._number = 0

    def next(self, sms_path: str, status_path: str) -> Mutant:
        """Return one more. Their SIDs are all different, as long as no change hits one."""
        random = self._random
        self._number += 1
        sid = f"SM{self._number:032x}"
        is_text = random.random() < 0.6
        body = original = encode_form(self._text(sid) if is_text else self._receipt(sid))
        for _ in range(random.choice((0, 1, 1, 2, 3, 8))):
            body = self._mutate(body)
        query = random.choice(("", "", "", "?ref=0", "?a=%00", "?ref=" + "0" * 32 + ".1"))
        signed = body if random.random() < 0.5 else original
        return Mutant(sms_path if is_text else status_path, query, body, signed)

    def _text(self, sid: str) -> Pairs:
        random = self._random
        sender = random.choice((f"+1415555{random.randrange(10_000):04d}", "12345", "ACME", "whatsapp:+14155550123"))
        pairs = text_form(sid, random.choice(_TEXTS), sender=sender)
        if random.random() < 0.2:
            pairs += [("MediaUrl0", "https://api.twilio.com/ME1"), ("MediaContentType0", "image/jpeg")]
        if random.random() < 0.2:
            pairs += random.choice(self._extra)
        return pairs

    def _receipt(self, sid: str) -> Pairs:
        random = self._random
        pairs = status_form(sid, random.choice(_STATUSES))
        if random.random() < 0.3:
            pairs.append(("ErrorCode", random.choice(("30003", "0", "", "21610", "x" * 50))))
        return pairs

    def _mutate(self, body: bytes) -> bytes:
        random = self._random
        at = random.randrange(len(body) + 1)
        end = min(at + random.choice((1, 1, 2, 5, 40)), len(body))
        match random.randrange(6):
            case 0 if at < len(body):
                return body[:at] + bytes([body[at] ^ (1 << random.randrange(8))]) + body[at + 1 :]
            case 1:
                return body[:at] + body[end:]
            case 2:
                return body[:end] + body[at:]
            case 3:
                return body[:at] + random.choice(_PIECES) + body[end:]
            case 4:
                pairs = body.split(b"&")
                random.shuffle(pairs)
                return b"&".join(pairs)
            case _:
                return body[:at] + random.choice(_PIECES) + body[at:]

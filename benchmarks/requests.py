"""Prepared requests: Twilio's webhooks, signed as Twilio signs them, and reads of the history API. Raw HTTP bytes."""

import hashlib
import itertools
import random
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from sms_foundation.auth.keys.format import generate_key
from sms_foundation.providers.twilio.signature import sign
from sms_foundation.simulator.crowd.generator import generate_crowd
from sms_foundation.simulator.forms import Pairs, inbound_form, new_message_sid, status_form

BASE_URL = "https://sms.example.com"
HOST = "sms.example.com"
SMS_PATH = "/webhook/twilio/sms"
STATUS_PATH = "/webhook/twilio/status"
ACCOUNT_SID = "AC" + "b0" * 16
AUTH_TOKEN = "benchmark-auth-token"
API_KEY = generate_key(is_test=False).text
OUR_NUMBER = "+15005550006"
_MESSAGING_SERVICE_SID = "MG" + "b1" * 16
_BODIES = 4000
_DUPLICATE_WITHIN = 200  # requests: some repeats overtake their original's commit, most come later
_AREA_CODES = (212, 203, 415, 312, 617, 305, 206, 512, 718, 303)


@dataclass(frozen=True, slots=True)
class InboundRequests:
    """Requests and, beside each, the MessageSid it carries."""

    requests: Sequence[bytes]
    sids: Sequence[str]


class TextMaker:
    """Makes inbound webhooks without end: new MessageSids, bodies in three languages of the simulator's crowd."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._bodies = [text.body for text in itertools.islice(generate_crowd(seed), _BODIES)]

    def texts(self, count: int, *, phones: Sequence[str], duplicate_share: float = 0.0) -> InboundRequests:
        """Return `count` webhooks from `phones`, drawn at random; `duplicate_share` (0..1) of them are redeliveries."""
        requests: list[bytes] = []
        sids: list[str] = []
        for index in range(count):
            if index and self._random.random() < duplicate_share:
                earlier = self._random.randrange(max(0, index - _DUPLICATE_WITHIN), index)
                requests.append(requests[earlier])
                sids.append(sids[earlier])
                continue
            sids.append(new_message_sid())
            requests.append(inbound_text(sids[-1], self._random.choice(phones), self._random.choice(self._bodies)))
        return InboundRequests(requests, sids)


def inbound_text(sid: str, sender: str, body: str) -> bytes:
    """Return the signed webhook of one inbound text, 20 parameters."""
    form = inbound_form(
        message_sid=sid,
        account_sid=ACCOUNT_SID,
        sender=sender,
        recipient=OUR_NUMBER,
        body=body,
        messaging_service_sid=_MESSAGING_SERVICE_SID,
    )
    return signed_post(SMS_PATH, form)


def status_callbacks(sids: Iterable[str], statuses: Sequence[str] = ("sent", "delivered")) -> Iterator[bytes]:
    """Yield the signed status callbacks of outgoing messages, all of one message in a row."""
    now = datetime.now(UTC)
    for sid, status in itertools.product(sids, statuses):
        form = status_form(
            message_sid=sid,
            account_sid=ACCOUNT_SID,
            status=status,
            sender=OUR_NUMBER,
            recipient="+14155550123",
            now=now,
            messaging_service_sid=_MESSAGING_SERVICE_SID,
        )
        yield signed_post(STATUS_PATH, form)


def history_read(phone: str, query: str) -> bytes:
    """Return an authorised GET of a conversation; `query` as in `page=3` or `cursor=...`."""
    return (
        f"GET /conversations/{quote(phone, safe='')}?{query} HTTP/1.1\r\nHost: {HOST}\r\n"
        f"Authorization: Bearer {API_KEY}\r\nAccept: application/json\r\n\r\n"
    ).encode()


def signed_post(path: str, form: Pairs) -> bytes:
    """Return a webhook as Twilio sends it: a form POST, signed over the public URL."""
    body = urlencode(form).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\n"
        f"Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\nContent-Length: {len(body)}\r\n"
        f"X-Twilio-Signature: {sign(AUTH_TOKEN, BASE_URL + path, form)}\r\n"
        f"I-Twilio-Idempotency-Token: {secrets.token_hex(16)}\r\nUser-Agent: TwilioProxy/1.1\r\nAccept: */*\r\n\r\n"
    )
    return head.encode() + body


def phone_numbers(count: int) -> list[str]:
    """Return that many different North American numbers in E.164; at most 7,000,000."""
    return [f"+1{_AREA_CODES[index % 10]}{200 + index // 10 % 700}{index // 7000:04d}" for index in range(count)]


def seeded_sid(number: int, *, family: str) -> str:
    """Return the SID that `database.seed_messages` gives to its `number`-th message (from 1)."""
    return "SM" + hashlib.md5(f"{family}{number}".encode(), usedforsecurity=False).hexdigest()

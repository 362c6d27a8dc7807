"""100,000 requests like Twilio's with bytes changed, a share of them with every run of the tests, all with FUZZ=20.

Nothing fails, nothing is accepted without a valid signature, and what is stored is what was signed. Both are found out
without the service's own parser and signatures: by urllib's and by the words of Twilio's documentation.
"""

import asyncio
import base64
import hashlib
import hmac
import os
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import orjson
import pytest
from starlette.types import ASGIApp, Message

from sms_foundation.app import create_app
from sms_foundation.core.config import LOCAL_ACCOUNT_SID, LOCAL_AUTH_TOKEN, Settings
from sms_foundation.core.db import Database, DatabaseUrl
from tests.fuzz.budget import examples
from tests.fuzz.mutation import Mutant, Mutator
from tests.support.service import BASE_URL, SMS_PATH, STATUS_PATH, make_settings, running

_VECTORS = (Path(__file__).parents[1] / "fixtures" / "signature_vectors.jsonl").read_bytes().splitlines()
_AT_ONCE = 64
_is_sid = re.compile(r"SM[0-9a-f]{32}").fullmatch
_is_plain = re.compile(r"[a-z]{1,20}|(whatsapp:)?\+?[0-9]{5,15}").fullmatch
_FORM = (b"content-type", b"application/x-www-form-urlencoded; charset=UTF-8")


@pytest.fixture
def settings() -> Settings:
    return make_settings(work_in_process=False)


@pytest.fixture
async def app(settings: Settings, database_url: DatabaseUrl) -> AsyncIterator[ASGIApp]:
    app = create_app(settings, database_url)
    async with running(app):
        yield app


def pairs_of(body: bytes) -> list[tuple[str, str]]:
    """Decode a form as urllib does; bytes that are no UTF-8 become surrogates."""
    text = "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in body)
    return parse_qsl(text, keep_blank_values=True, errors="surrogateescape")


def signature_of(mutant: Mutant, pairs: Sequence[tuple[str, str]]) -> bytes:
    """Sign as Twilio documents it: the URL, then each name and its values, sorted."""
    values = defaultdict(set)
    for name, value in pairs:
        values[name].add(value)
    signed = "".join(name + value for name in sorted(values) for value in sorted(values[name]))
    data = f"{BASE_URL}{mutant.path}{mutant.query}{signed}".encode("utf-8", "surrogateescape")
    return base64.b64encode(hmac.new(LOCAL_AUTH_TOKEN.encode(), data, hashlib.sha1).digest())


def readable(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\0", "\ufffd")


@dataclass(frozen=True)
class Sent:
    """A request that was made, what it says, and how it was answered."""

    mutant: Mutant
    pairs: list[tuple[str, str]]
    is_authentic: bool
    status: int

    def first(self, name: str) -> str:
        return readable(next((value for each, value in self.pairs if each == name), "")).strip()

    @property
    def is_of_a_strange_account(self) -> bool:
        named = next((value for name, value in self.pairs if name == "AccountSid"), "")
        return named not in ("", LOCAL_ACCOUNT_SID)


class Poster:
    """Calls the service as its server does, which is three times as fast as through a client."""

    def __init__(self, app: ASGIApp, seed: int) -> None:
        self._app = app
        self._mutator = Mutator(seed, _VECTORS)

    async def post(self) -> Sent:
        """Make one more request."""
        mutant = self._mutator.next(SMS_PATH, STATUS_PATH)
        pairs = pairs_of(mutant.body)
        given = signature_of(mutant, pairs_of(mutant.signed))
        return Sent(mutant, pairs, given == signature_of(mutant, pairs), await self._call(mutant, given))

    async def _call(self, mutant: Mutant, signature: bytes) -> int:
        status: list[int] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": mutant.body, "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])

        await self._app(
            {
                "type": "http",
                "method": "POST",
                "scheme": "https",
                "path": mutant.path,
                "raw_path": mutant.path.encode(),
                "query_string": mutant.query[1:].encode(),
                "headers": [_FORM, (b"x-twilio-signature", signature)],
                "client": ("203.0.113.7", 4711),
                "http_version": "1.1",
            },
            receive,
            send,
        )
        return status[0]


def check_answer(sent: Sent) -> None:
    """Accepted only if it is authentic; refused only for a reason."""
    assert sent.status < 500, sent
    if not sent.is_authentic or sent.is_of_a_strange_account:
        assert sent.status == 403, sent
        return
    who_or_what = sent.first("From") if sent.mutant.path == SMS_PATH else _status_word(sent)
    if _is_sid(sent.first("MessageSid")) and _is_plain(who_or_what) and len(sent.first("To")) <= 128:
        assert sent.status == 200, sent
    assert sent.status in (200, 400), sent


def raw_of(pairs: Sequence[tuple[str, str]]) -> dict[str, list[bytes]]:
    """Return what was signed, value by value, under the names that JSON can hold."""
    found = defaultdict(list)
    for name, value in pairs:
        written = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\0", "\\x00")
        found[written].append(value.encode("utf-8", "surrogateescape"))
    return dict(found)


def read_raw(text: str) -> dict[str, list[bytes]]:
    """Read what was stored back into the bytes that came."""
    return {name: [_bytes(each) for each in _as_list(value)] for name, value in orjson.loads(text).items()}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _bytes(value: Any) -> bytes:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value.encode()


def _status_word(sent: Sent) -> str:
    return (sent.first("MessageStatus") or sent.first("SmsStatus")).lower()


Text = tuple[str, str, str, dict[str, list[bytes]]]


class Signed:
    """What was signed and accepted, by what identifies it; a change can hit that, so it may be several things."""

    def __init__(self) -> None:
        self.texts: dict[str, list[Text]] = defaultdict(list)
        self.receipts: dict[tuple[str, str], list[dict[str, list[bytes]]]] = defaultdict(list)

    def add(self, sent: Sent) -> None:
        sid, raw = sent.first("MessageSid"), raw_of(sent.pairs)
        if sent.mutant.path == STATUS_PATH:
            self.receipts[sid, _status_word(sent)].append(raw)
            return
        body = readable(next((value for name, value in sent.pairs if name == "Body"), ""))
        self.texts[sid].append((sent.first("From"), sent.first("To"), body, raw))

    async def check(self, database: Database) -> int:
        """Hold everything stored against it; returns how much that is."""
        return await self._check_texts(database) + await self._check_receipts(database)

    async def _check_texts(self, database: Database) -> int:
        rows = await database.pool.fetch(
            "SELECT provider_message_id, from_number, to_number, message_content, raw_webhook_data::text AS raw "
            "FROM sms_messages"
        )
        assert len(rows) == len(self.texts)
        assert {row["provider_message_id"] for row in rows} == set(self.texts)  # nothing lost, nothing forged or twice
        for row in rows:
            stored = (row["from_number"], row["to_number"], row["message_content"], read_raw(row["raw"]))
            assert stored in self.texts[row["provider_message_id"]], stored
        return len(rows)

    async def _check_receipts(self, database: Database) -> int:
        rows = await database.pool.fetch(
            "SELECT provider_message_id, event_status, raw_webhook_data::text AS raw FROM sms_message_status_events"
        )
        assert {(row["provider_message_id"], row["event_status"]) for row in rows} == set(self.receipts)
        for row in rows:
            assert read_raw(row["raw"]) in self.receipts[row["provider_message_id"], row["event_status"]], row
        return len(rows)


@asynccontextmanager
async def seeded() -> AsyncIterator[int]:
    """Choose a seed, or take FUZZ_SEED; what fails says which it was."""
    seed = int(os.environ.get("FUZZ_SEED") or int.from_bytes(os.urandom(4)))
    try:
        yield seed
    except AssertionError as error:
        error.add_note(f"again with FUZZ_SEED={seed}")
        raise


class TestWebhooks:
    async def test_nothing_fails_nothing_forged_is_accepted_and_what_is_stored_was_signed(
        self, app: ASGIApp, database: Database
    ) -> None:
        total, signed = examples(5_000), Signed()
        async with seeded() as seed:
            poster = Poster(app, seed)
            for _ in range(0, total, _AT_ONCE):
                for sent in await asyncio.gather(*(poster.post() for _ in range(_AT_ONCE))):
                    check_answer(sent)
                    if sent.status == 200:
                        signed.add(sent)
            assert await signed.check(database) > total * 0.3

"""Providers are asked to forget the texts of somebody who is erased, at once or later."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import orjson
import pytest

from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.messaging.outbound import store
from sms_foundation.messaging.outbound.policy import SendingPolicy
from sms_foundation.messaging.outbound.reconcile import Report
from sms_foundation.messaging.outbound.results import sent
from sms_foundation.providers.base import MessageStatus, SendReceipt
from tests.loopback import LoopbackServer, Received, reply
from tests.support.one_person import PERSON, World, reconciliation_of
from tests.support.outbound import HttpProvider, expire_leases, sending
from tests.support.service import Service

ACCOUNT = "AC" + "0" * 32


@dataclass
class Twilio:
    """Twilio's messages as far as forgetting goes; `refusal` is what it answers instead."""

    emptied: list[str] = field(default_factory=list)
    media: dict[str, list[str]] = field(default_factory=dict)
    refusal: bytes | None = None
    sent: int = 0

    async def answer(self, request: Received) -> bytes:
        if self.refusal is not None:
            return self.refusal
        if "/Media" in request.target:
            return self._answer_about_media(request)
        sid = request.target.rpartition("/")[2].removesuffix(".json")
        form = parse_qs(request.body.decode(), keep_blank_values=True)
        if sid == "Messages":
            self.sent += 1
            sid = f"SM{self.sent:032x}"
            return reply(201, orjson.dumps({"sid": sid, "status": "queued", "body": form["Body"][0]}))
        assert form == {"Body": [""]}
        self.emptied.append(sid)
        num_media = str(len(self.media.get(sid, ())))
        return reply(200, orjson.dumps({"sid": sid, "status": "delivered", "body": "", "num_media": num_media}))

    def _answer_about_media(self, request: Received) -> bytes:
        sid, media = request.target.partition("?")[0].rpartition("/Messages/")[2].split("/", 1)
        if request.method == "GET":
            return reply(200, orjson.dumps({"media_list": [{"sid": each} for each in self.media[sid]]}))
        self.media[sid].remove(media.rpartition("/")[2].removesuffix(".json"))
        return reply(204)


@pytest.fixture
def twilio() -> Twilio:
    return Twilio()


@pytest.fixture
async def world(
    twilio: Twilio, service: Service, database: Database, database_url: DatabaseUrl
) -> AsyncIterator[World]:
    """Nobody yet; what is sent goes through Twilio."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(LoopbackServer(twilio.answer))
        entry = {
            "kind": "twilio",
            "name": "twilio",
            "account_sid": ACCOUNT,
            "auth_token": "s3cr3t",
            "senders": ["+15005550006"],
            "rate_per_s": None,
            "sender_rates": {"*": None},
            "api_base_url": server.base_url,
        }
        process = await stack.enter_async_context(sending(database_url, [entry], is_running=False))
        reconciliation = await stack.enter_async_context(reconciliation_of(process))
        yield World(service, database, process, HttpProvider("nobody"), reconciliation)


async def exchange(world: World) -> list[str]:
    """Let one text come in, one go out and be delivered; return their ids at the provider."""
    await world.text("SM" + "a" * 32, "pineapple")
    id_ = await world.send("pineapple for you")
    await world.send_off()
    await world.tell(id_, "delivered")
    return [row["provider_message_id"] for row in await world.messages()]


class TestForgetting:
    async def test_texts_both_ways_are_forgotten(self, world: World, twilio: Twilio) -> None:
        sids = await exchange(world)
        erased = await world.erase()

        assert sorted(twilio.emptied) == sorted(sids)
        assert (erased.forgotten_by_provider, erased.asked_later, erased.not_forgotten_by_provider) == (2, 0, 0)

    async def test_photos_are_forgotten(self, world: World, twilio: Twilio) -> None:
        sid = "MM" + "a" * 32
        twilio.media[sid] = ["ME1", "ME2"]
        await world.text(
            sid, "pineapple", NumMedia="2", MediaUrl0="https://x.example/1", MediaUrl1="https://x.example/2"
        )
        erased = await world.erase()

        assert (twilio.media, erased.forgotten_by_provider) == ({sid: []}, 1)

    @pytest.mark.parametrize("word", ["receipt", "answer"])
    async def test_one_that_turns_out_to_have_got_there_is_forgotten_then(
        self, world: World, twilio: Twilio, word: str
    ) -> None:
        """A process hung in the middle of the call: nobody knew whether Twilio has the message when it was erased."""
        id_ = await world.send("pineapple")
        (work,) = await world.sender.claim()
        await world.sender.begin(work)
        async with world.database.connection() as connection:
            message = (await store.load(connection, [id_]))[id_]
        await expire_leases(world.database)
        await world.erase()
        await world.reconciliation.redact_due(Report())
        assert twilio.emptied == []
        sid = "SM" + "b" * 32
        if word == "receipt":
            pairs = [("MessageSid", sid), ("MessageStatus", "delivered"), ("To", PERSON), ("From", "+15005550006")]
            await world.service.post_signed(f"/webhook/twilio/status?ref={id_.hex}.1", pairs)
        else:
            receipt = SendReceipt(provider_message_id=sid, event_status="delivered", status=MessageStatus.DELIVERED)
            await world.sender.dispatcher.record(sent(work, message, 1, receipt, SendingPolicy()))
        await world.reconciliation.redact_due(Report())

        assert twilio.emptied == [sid]
        assert await world.traces() == {}

    async def test_a_provider_that_is_away_is_asked_again_by_the_service(self, world: World, twilio: Twilio) -> None:
        sids = await exchange(world)
        twilio.refusal = reply(503)
        erased = await world.erase()
        assert (erased.asked_later, await world.traces()) == (2, {})
        twilio.refusal = None
        await world.database.pool.execute("UPDATE sms_messages SET redact_at = now() WHERE redact_at IS NOT NULL")
        await world.reconciliation.redact_due(Report())

        assert sorted(twilio.emptied) == sorted(sids)
        rows = await world.messages()
        assert [(row["message_content"], row["redact_at"]) for row in rows] == [("", None)] * 2

    async def test_one_on_its_way_is_forgotten_when_it_has_arrived(self, world: World, twilio: Twilio) -> None:
        id_ = await world.send("pineapple")
        await world.send_off()
        erased = await world.erase()
        assert (erased.asked_later, twilio.emptied) == (1, [])
        await world.tell(id_, "delivered")
        await world.database.pool.execute("UPDATE sms_messages SET redact_at = now()")
        await world.reconciliation.redact_due(Report())

        assert len(twilio.emptied) == 1
        assert await world.traces() == {}
        assert PERSON not in str(await world.messages())

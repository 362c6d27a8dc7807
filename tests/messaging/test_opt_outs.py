"""STOP and START, as people text them and as providers report them. The full service runs."""

import pytest

from sms_foundation.core.config import LOCAL_PHONE_NUMBER
from sms_foundation.core.db import Database
from sms_foundation.messaging.delivery import ReceiptStore
from sms_foundation.messaging.opt_outs import apply_keyword, is_keyword
from sms_foundation.providers.base import MessageStatus, StatusReport
from sms_foundation.providers.errors import ErrorKind
from tests.support.outbound import accept, message, request
from tests.support.service import TENANT_PHONE, Service


async def opt_outs(database: Database) -> list[tuple[str, str, str, str | None]]:
    rows = await database.pool.fetch("SELECT phone_number_canonical, sender, source, provider FROM sms_opt_outs")
    return [tuple(row) for row in rows]


class TestKeyword:
    @pytest.mark.parametrize("text", ["STOP", "stop", " Stop\n", "UNSUBSCRIBE", "end", "Quit", "stopall", "cancel"])
    async def test_that_stops_is_taken_at_its_word(self, service: Service, text: str) -> None:
        await service.text("SM" + "1" * 32, text)
        await service.finish_work("message_received")

        assert await opt_outs(service.database) == [(TENANT_PHONE, LOCAL_PHONE_NUMBER, "keyword", None)]

    @pytest.mark.parametrize("text", ["Please stop the noise upstairs", "STOP it", "", "the end", "yes"])
    async def test_any_other_text_changes_nothing(self, service: Service, text: str) -> None:
        await service.text("SM" + "1" * 32, text)
        await service.finish_work("message_received")

        assert await opt_outs(service.database) == []

    @pytest.mark.parametrize("text", ["START", "unstop", "Yes"])
    async def test_that_starts_undoes_it(self, service: Service, text: str) -> None:
        for number, each in enumerate(["STOP", text]):
            await service.text("SM" + str(number) * 32, each)
            await service.finish_work("message_received")

        assert await opt_outs(service.database) == []

    async def test_of_another_phone_undoes_nothing(self, service: Service) -> None:
        await service.text("SM" + "1" * 32, "STOP")
        await service.text("SM" + "2" * 32, "START", sender="+14155550199")
        await service.finish_work("message_received")

        assert len(await opt_outs(service.database)) == 1

    async def test_that_is_looked_at_again_after_a_later_one_does_not_undo_that(self, service: Service) -> None:
        """A text whose enrichment fails is looked at again and again; what its sender wants now is in the last."""
        for number, text in enumerate(["STOP", "thanks", "START"]):
            await service.text("SM" + str(number) * 32, text)
        await service.finish_work("message_received")
        first, _, last = await service.database.pool.fetch("SELECT id FROM sms_messages ORDER BY conversation_seq")

        async with service.database.connection() as connection:
            for id_, text in ((last[0], "START"), (first[0], "STOP")):
                await apply_keyword(connection, id_, phone=TENANT_PHONE, own_number=LOCAL_PHONE_NUMBER, text=text)

        assert await opt_outs(service.database) == []

    def test_is_known_by_itself_alone(self) -> None:
        assert [is_keyword(text) for text in ("stop", " START ", "stop now", "")] == [True, True, False, False]


class TestReceipt:
    def report(self, word: str = "failed", kind: ErrorKind | None = ErrorKind.OPTED_OUT) -> StatusReport:
        return StatusReport("twilio", "SM1", word, MessageStatus(word), "21610", "opted out", "{}", None, None, kind)

    async def send(self, database: Database) -> None:
        (id_,) = await accept(database, request(TENANT_PHONE))
        await database.pool.execute(
            "UPDATE sms_messages SET provider = 'twilio', provider_message_id = 'SM1', from_number = '+15005550006', "
            "delivery_status = 'sent' WHERE id = $1",
            id_,
        )

    async def test_that_says_so_records_it_whoever_sent_the_message(self, database: Database) -> None:
        await self.send(database)
        receipts = ReceiptStore(database, timeout_s=20.0)
        await receipts.apply(self.report())
        await receipts.apply(self.report())  # again changes nothing

        assert await opt_outs(database) == [(TENANT_PHONE, "+15005550006", "provider", "twilio")]

    async def test_about_any_other_failure_does_not(self, database: Database) -> None:
        await self.send(database)
        await ReceiptStore(database, timeout_s=20.0).apply(self.report(kind=ErrorKind.UNAVAILABLE))

        assert await opt_outs(database) == []

    async def test_that_finds_its_message_by_our_reference_records_it_too(self, database: Database) -> None:
        (id_,) = await accept(database, request(TENANT_PHONE))
        await database.pool.execute(
            "UPDATE sms_messages SET provider = 'twilio', from_number = '+15005550006', delivery_status = 'sending'"
        )
        report = self.report()._replace(reference=f"{id_.hex}.1")
        await ReceiptStore(database, timeout_s=20.0).apply(report)

        assert len(await opt_outs(database)) == 1
        assert (await message(database, id_))["delivery_status"] == "failed"

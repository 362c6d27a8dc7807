from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.responses import Response

from sms_foundation.core.errors import ValidationError
from sms_foundation.simulator.account import SimulatedAccount, StatusOrder, StatusSequence, Text
from sms_foundation.simulator.settings import SimulatorSettings
from sms_foundation.simulator.state import make_courier
from tests.simulator.servers import FakeTime, Receiver, settings_for

SID = "SM" + "0a" * 16
LIFE = ("queued", "sending", "sent", "delivered")


@asynccontextmanager
async def account_of(settings: SimulatorSettings, fake_time: FakeTime) -> AsyncIterator[SimulatedAccount]:
    async with make_courier(settings, fake_time.timing) as courier:
        yield SimulatedAccount(settings, courier, fake_time.timing)


@pytest.fixture
def settings(receiver: Receiver) -> SimulatorSettings:
    return settings_for(receiver.base_url)


class TestSendText:
    async def test_it_goes_to_the_organisations_number_under_a_new_sid(
        self, settings: SimulatorSettings, receiver: Receiver, fake_time: FakeTime
    ) -> None:
        async with account_of(settings, fake_time) as account:
            (delivery,) = await account.send_text(Text(sender="+1 512 555 0142", body="Hola"))
        form = receiver.received[0].form
        assert receiver.received[0].path == "/webhook/twilio/sms"
        assert (form["From"], form["To"], form["Body"]) == ("+15125550142", settings.phone_number, "Hola")
        assert form["AccountSid"] == settings.account_sid
        assert form["MessageSid"] == delivery.message_sid
        assert account.journal.find(limit=1) == [delivery]
        assert account.phones.texts_of("+15125550142")[0].body == "Hola"

    async def test_media_make_it_an_mms(
        self, settings: SimulatorSettings, receiver: Receiver, fake_time: FakeTime
    ) -> None:
        async with account_of(settings, fake_time) as account:
            await account.send_text(Text(sender="+15125550142", body="", media_urls=["https://m.example/a.jpg"]))
        assert receiver.received[0].form["MessageSid"].startswith("MM")
        assert receiver.received[0].form["MediaUrl0"] == "https://m.example/a.jpg"

    async def test_copies_are_one_event_delivered_several_times(
        self, settings: SimulatorSettings, receiver: Receiver, fake_time: FakeTime
    ) -> None:
        async with account_of(settings, fake_time) as account:
            deliveries = await account.send_text(Text(sender="+15125550142", body="Hola", copies=10))
        assert len(deliveries) == len(receiver.received) == 10
        assert len({each.raw for each in receiver.received}) == 1
        assert len({each.headers["i-twilio-idempotency-token"] for each in receiver.received}) == 1

    async def test_a_channel_is_answered_on_the_same_channel(
        self, settings: SimulatorSettings, receiver: Receiver, fake_time: FakeTime
    ) -> None:
        async with account_of(settings, fake_time) as account:
            await account.send_text(Text(sender="whatsapp:+15125550142", body="Hola"))
        assert receiver.received[0].form["To"] == f"whatsapp:{settings.phone_number}"

    async def test_what_is_no_address_is_refused_and_nothing_sent(
        self, settings: SimulatorSettings, receiver: Receiver, fake_time: FakeTime
    ) -> None:
        async with account_of(settings, fake_time) as account:
            with pytest.raises(ValidationError):
                await account.send_text(Text(sender="nobody at all", body="Hola"))
        assert receiver.received == []

    async def test_the_fallback_url_is_used(self, receiver: Receiver, fake_time: FakeTime) -> None:
        receiver.answers.append(Response(status_code=503))
        settings = settings_for(receiver.base_url, fallback_url=f"{receiver.base_url}/fallback")
        async with account_of(settings, fake_time) as account:
            (delivery,) = await account.send_text(Text(sender="+15125550142", body="Hola"))
        assert delivery.is_delivered
        assert receiver.received[1].path == "/fallback"


class TestReportStatuses:
    @pytest.mark.parametrize(
        ("order", "arrived"),
        [("given", ["delivered", "queued", "sent"]), ("documented", ["queued", "sent", "delivered"])],
    )
    async def test_order_is_as_asked_for(
        self,
        settings: SimulatorSettings,
        receiver: Receiver,
        fake_time: FakeTime,
        order: StatusOrder,
        arrived: list[str],
    ) -> None:
        async with account_of(settings, fake_time) as account:
            await account.report_statuses(
                StatusSequence(message_sid=SID, statuses=["delivered", "queued", "sent"], order=order)
            )
        assert [each.form["MessageStatus"] for each in receiver.received] == arrived
        assert {each.path for each in receiver.received} == {"/webhook/twilio/status"}

    async def test_a_seed_makes_a_shuffled_order_repeatable(
        self, settings: SimulatorSettings, receiver: Receiver, fake_time: FakeTime
    ) -> None:
        async with account_of(settings, fake_time) as account:
            for _ in range(2):
                await account.report_statuses(
                    StatusSequence(message_sid=SID, statuses=LIFE, order="shuffled", repeats=3, seed=5)
                )
        arrived = [each.form["MessageStatus"] for each in receiver.received]
        assert arrived[:12] == arrived[12:]
        assert sorted(arrived[:12]) == sorted(LIFE * 3)

    async def test_repeats_keep_the_token_of_their_event(
        self, settings: SimulatorSettings, receiver: Receiver, fake_time: FakeTime
    ) -> None:
        async with account_of(settings, fake_time) as account:
            await account.report_statuses(StatusSequence(message_sid=SID, statuses=["sent", "delivered"], repeats=2))
        tokens = [each.headers["i-twilio-idempotency-token"] for each in receiver.received]
        assert tokens[0] == tokens[1] != tokens[2] == tokens[3]

    async def test_error_code_goes_with_failure_and_the_gap_is_waited(
        self, settings: SimulatorSettings, receiver: Receiver, fake_time: FakeTime
    ) -> None:
        async with account_of(settings, fake_time) as account:
            await account.report_statuses(
                StatusSequence(message_sid=SID, statuses=["sent", "undelivered"], error_code="30007", gap_ms=250)
            )
        assert [each.form.get("ErrorCode") for each in receiver.received] == [None, "30007"]
        assert fake_time.slept == [0.25]

    async def test_a_status_twilio_does_not_have_is_refused(
        self, settings: SimulatorSettings, receiver: Receiver, fake_time: FakeTime
    ) -> None:
        async with account_of(settings, fake_time) as account:
            with pytest.raises(ValidationError, match="teleported"):
                await account.report_statuses(StatusSequence(message_sid=SID, statuses=["sent", "teleported"]))
        assert receiver.received == []

"""The carrier with a clock that moves only when it sleeps."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from sms_foundation.simulator.carrier.carrier import Carrier
from sms_foundation.simulator.carrier.messages import Message, MessageStore, Stage
from sms_foundation.simulator.carrier.receipts import MAX_TRIES, Receipt
from sms_foundation.simulator.faults.book import FaultBook
from sms_foundation.simulator.faults.rules import FaultKind, FaultRule
from sms_foundation.simulator.journal import Phones
from sms_foundation.simulator.scenario import TravelTime
from tests.simulator.servers import FakeTime

PHONE = "+15125550142"


class Reports:
    """A dialect that writes down what it was to report, and says whether the service took it."""

    def __init__(self) -> None:
        self.receipts: list[Receipt] = []
        self.refusals = 0

    async def __call__(self, receipt: Receipt) -> bool:
        self.receipts.append(receipt)
        self.refusals -= 1
        return self.refusals < 0

    @property
    def stages(self) -> list[Stage]:
        return [receipt.stage for receipt in self.receipts]


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
async def carrier(fake_time: FakeTime, reports: Reports) -> AsyncIterator[Carrier]:
    timing = fake_time.timing
    carrier = Carrier(timing, phones=Phones(), faults=FaultBook(timing.monotonic), travel=TravelTime(0.2, 1.0))
    carrier.receipts.use({"twilio": reports})
    yield carrier
    await carrier.close()


def message(n: int = 0, *, recipient: str = PHONE) -> Message:
    return Message(
        provider="twilio",
        id=f"SM{n}",
        sender="+15005550006",
        recipient=recipient,
        body=str(n),
        callback_url="http://service.example/status",
    )


async def settle(carrier: Carrier, fake_time: FakeTime) -> None:
    while len(carrier.schedule) or len(carrier.receipts):
        await fake_time.sleep(0)


class TestAccept:
    async def test_it_travels_through_its_stages(self, carrier: Carrier, fake_time: FakeTime, reports: Reports) -> None:
        each = message()
        carrier.accept(each)
        assert each.stage is Stage.QUEUED
        await settle(carrier, fake_time)
        assert each.stage is Stage.DELIVERED
        assert reports.stages == [Stage.SENT, Stage.DELIVERED]
        (text,) = carrier.record.list_texts(limit=9)
        assert text.arrived_at is not None
        assert timedelta(seconds=0.2) <= text.arrived_at - text.accepted_at <= timedelta(seconds=1.1)

    async def test_each_phone_gets_its_messages_in_the_order_of_acceptance(
        self, carrier: Carrier, fake_time: FakeTime
    ) -> None:
        phones = [f"+1512555010{n}" for n in range(3)]
        for n in range(60):
            carrier.accept(message(n, recipient=phones[n % 3]))
        await settle(carrier, fake_time)
        for n, phone in enumerate(phones):
            shown = [int(text.body) for text in reversed(carrier.phones.received_by(phone))]
            assert shown == list(range(n, 60, 3))

    async def test_what_the_carrier_fails_to_deliver_holds_up_nothing(
        self, carrier: Carrier, fake_time: FakeTime, reports: Reports
    ) -> None:
        carrier.faults.add(FaultRule(kind=FaultKind.CARRIER_ERROR, count=1, error_code=30005))
        first, second = message(0), message(1)
        carrier.accept(first)
        carrier.accept(second)
        await settle(carrier, fake_time)
        assert (first.stage, first.error_code) == (Stage.UNDELIVERED, 30005)
        assert second.stage is Stage.DELIVERED
        assert [text.body for text in carrier.phones.received_by(PHONE)] == ["1"]
        (failed,) = [receipt for receipt in reports.receipts if receipt.stage is Stage.UNDELIVERED]
        assert failed.error_code == 30005

    async def test_a_scheduled_one_waits_for_its_time(
        self, carrier: Carrier, fake_time: FakeTime, reports: Reports
    ) -> None:
        each = message()
        each.send_at = fake_time.now() + timedelta(seconds=30)
        carrier.accept(each)
        assert (each.stage, len(carrier.record)) == (Stage.SCHEDULED, 0)
        await settle(carrier, fake_time)
        assert len(carrier.record) == 1
        assert each.stage is Stage.DELIVERED
        assert fake_time.now_s >= 1_030

    async def test_a_canceled_one_never_goes_out(self, carrier: Carrier, fake_time: FakeTime, reports: Reports) -> None:
        each = message()
        each.send_at = fake_time.now() + timedelta(seconds=30)
        carrier.accept(each)
        assert carrier.cancel(each)
        assert not carrier.cancel(each)
        await settle(carrier, fake_time)
        assert (each.stage, len(carrier.record), reports.stages) == (Stage.CANCELED, 0, [Stage.CANCELED])


class TestReceipts:
    async def test_what_was_not_taken_is_tried_again_later(
        self, carrier: Carrier, fake_time: FakeTime, reports: Reports
    ) -> None:
        reports.refusals = 2
        carrier.accept(message())
        await settle(carrier, fake_time)
        assert sorted(reports.stages) == [Stage.DELIVERED] * 2 + [Stage.SENT] * 2
        assert (carrier.receipts.delivered, carrier.receipts.given_up) == (2, 0)

    async def test_it_is_given_up_in_the_end(self, carrier: Carrier, fake_time: FakeTime, reports: Reports) -> None:
        reports.refusals = 1_000
        carrier.accept(message())
        await settle(carrier, fake_time)
        assert len(reports.receipts) == 2 * MAX_TRIES
        assert carrier.receipts.given_up == 2


class TestMessageStore:
    def test_the_oldest_make_room(self) -> None:
        store = MessageStore(size=2)
        for n in range(3):
            store.add(message(n))
        assert [each.id for each in store.list_newest("twilio")] == ["SM2", "SM1"]
        assert [each.id for each in store.list_newest("twilio", recipient=PHONE)] == ["SM2", "SM1"]
        assert store.find("twilio", "SM0") is None

    def test_another_provider_does_not_know_it(self) -> None:
        store = MessageStore()
        store.add(message())
        assert store.find("vonage", "SM0") is None
        assert list(store.list_newest("vonage", recipient=PHONE)) == []

    def test_removing_twice_is_once(self) -> None:
        store = MessageStore()
        store.add(each := message())
        store.remove(each)
        store.remove(each)
        assert list(store.list_newest("twilio")) == []

"""The carrier: accepts, lets messages travel, and reports."""

import random
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from sms_foundation.core.phone import mask
from sms_foundation.simulator.carrier.messages import Message, MessageStore, Stage
from sms_foundation.simulator.carrier.optouts import OptOuts
from sms_foundation.simulator.carrier.receipts import Receipt, ReceiptDesk
from sms_foundation.simulator.carrier.record import TrueRecord
from sms_foundation.simulator.carrier.schedule import Schedule
from sms_foundation.simulator.faults.book import FaultBook
from sms_foundation.simulator.journal import Phones, ReceivedText
from sms_foundation.simulator.scenario import TravelTime
from sms_foundation.simulator.timing import Timing

_log = structlog.get_logger(__name__)

_SENT_AFTER: Final = 0.4
"""Part of the journey after which the provider has handed the message to the carrier."""


class Carrier:
    """What all simulated providers share. A message reaches its phone in the order in which it was accepted."""

    def __init__(self, timing: Timing, *, phones: Phones, faults: FaultBook, travel: TravelTime, seed: int = 1) -> None:
        self.timing = timing
        self.travel = travel
        self.phones = phones
        self.faults = faults
        self.messages = MessageStore()
        self.record = TrueRecord()
        self.opt_outs = OptOuts()
        self.schedule = Schedule(timing)
        self.receipts = ReceiptDesk(self._call_later)
        self._chance = random.Random(seed)  # noqa: S311  # repeatable on purpose
        self._last_arrival: dict[str, float] = {}

    async def close(self) -> None:
        """Stop everything that is on its way. Idempotent."""
        await self.schedule.close()
        await self.receipts.close()

    def accept(self, message: Message) -> None:
        """Take `message`: from here on it is in the true record and will travel. Needs a running loop."""
        moment = self.timing.monotonic()
        message.accepted_at = message.updated_at = self.timing.now()
        message.count_segments()
        self.messages.add(message)
        if message.send_at is not None and message.send_at > message.accepted_at:
            message.stage = Stage.SCHEDULED
            wait_s = (message.send_at - message.accepted_at).total_seconds()
            self.schedule.at(moment + wait_s, partial(self._send_scheduled, message))
        else:
            self._send(message, moment)

    def take_inbound(self, message: Message) -> None:
        """Keep a phone's text, so that the provider can list it. A redelivered one is not taken twice."""
        if self.messages.find(message.provider, message.id) is not None:
            return
        message.stage = Stage.RECEIVED
        message.accepted_at = message.updated_at = message.sent_at = self.timing.now()
        message.count_segments()
        self.messages.add(message)

    def cancel(self, message: Message) -> bool:
        """Stop a scheduled message; False when it has gone out already."""
        if message.stage is not Stage.SCHEDULED:
            return False
        self._advance(message, Stage.CANCELED)
        self._report(message, Stage.CANCELED)
        return True

    def _send_scheduled(self, message: Message) -> None:
        if message.stage is Stage.SCHEDULED:
            message.stage = Stage.QUEUED
            self._send(message, self.timing.monotonic())

    def _send(self, message: Message, moment: float) -> None:
        # Recorded now, not on arrival: this is the moment that limits and the order per phone are about.
        message.number = self.record.add(message, moment)
        _log.debug(
            "simulator.message.accepted",
            provider=message.provider,
            provider_message_id=message.id,
            recipient=mask(message.recipient),
        )
        travel_s = self._chance.uniform(self.travel.shortest_s, self.travel.longest_s)
        arrival = max(moment + travel_s, self._last_arrival.get(message.recipient, 0.0))
        sent = moment + travel_s * _SENT_AFTER
        error_code = self.faults.judge_journey(message)
        if error_code is None:
            self._last_arrival[message.recipient] = arrival
            end, last = Stage.DELIVERED, partial(self._arrive, message, arrival)
        else:
            end, last = Stage.UNDELIVERED, partial(self._fail, message, error_code)
        self.schedule.at(sent, partial(self._advance, message, Stage.SENT))
        self.schedule.at(arrival, last)
        if message.callback_url is not None:
            for at, stage in self.faults.bend_receipts(message, ((sent, Stage.SENT), (arrival, end))):
                self.schedule.at(at, partial(self._report, message, stage, error_code))

    def _arrive(self, message: Message, arrival: float) -> None:
        now = self.timing.now()
        self.record.mark_arrived(message, now)
        self.phones.receive(
            message.recipient,
            ReceivedText(message.provider, message.id, message.sender, message.body, message.media_urls, now),
        )
        self._advance(message, Stage.DELIVERED)
        if self._last_arrival.get(message.recipient) == arrival:
            del self._last_arrival[message.recipient]

    def _fail(self, message: Message, error_code: int) -> None:
        self.record.mark_failed(message, error_code)
        message.error_code = error_code
        self._advance(message, Stage.UNDELIVERED)

    def _advance(self, message: Message, stage: Stage) -> None:
        message.stage = stage
        message.updated_at = self.timing.now()
        if stage is Stage.SENT:
            message.sent_at = message.updated_at

    def _report(self, message: Message, stage: Stage, error_code: int | None = None) -> None:
        if message.callback_url is not None:
            self.receipts.hand_in(Receipt(message, stage, self.timing.now(), error_code))

    def _call_later(self, wait_s: float, action: Callable[[], None]) -> None:
        self.schedule.at(self.timing.monotonic() + wait_s, action)

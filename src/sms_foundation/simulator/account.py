"""The account the simulator plays: phones text it, its messages report their statuses."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import uuid4

from sms_foundation.core.errors import ValidationError
from sms_foundation.simulator.answers import judge_callback, judge_inbound
from sms_foundation.simulator.carrier.carrier import Carrier
from sms_foundation.simulator.carrier.messages import Message
from sms_foundation.simulator.delivery import Event, WebhookCourier
from sms_foundation.simulator.forms import STATUSES, inbound_form, new_message_sid, status_form
from sms_foundation.simulator.journal import Delivery, DeliveryJournal, EventKind, Phones, SentText
from sms_foundation.simulator.numbers import channel_of, parse_address
from sms_foundation.simulator.settings import SimulatorSettings
from sms_foundation.simulator.timing import Timing

StatusOrder = Literal["given", "documented", "shuffled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text that a phone sends to the organisation."""

    sender: str
    body: str
    recipient: str | None = None
    """None: the organisation's own number, on the sender's channel."""
    media_urls: Sequence[str] = ()
    message_sid: str | None = None
    """None: a new one. A SID used before makes this a redelivery."""
    copies: int = 1
    """How often the same event is delivered, all at once."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Further form parameters; they replace those of the same name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusSequence:
    """The status callbacks of one message."""

    message_sid: str
    statuses: Sequence[str]
    order: StatusOrder = "given"
    """`documented`: as in a message's life; `shuffled`: any order, `seed` decides which."""
    repeats: int = 1
    """How often each status is delivered, one after the other."""
    error_code: str | None = None
    recipient: str | None = None
    """The phone the message went to; left out of the form when unknown."""
    gap_ms: float = 0
    """Wait between two callbacks."""
    seed: int | None = None


class SimulatedAccount:
    """Turns what happens on phones and in carriers into webhooks, and keeps the record."""

    def __init__(
        self, settings: SimulatorSettings, courier: WebhookCourier, timing: Timing, carrier: Carrier | None = None
    ) -> None:
        """`carrier` keeps what phones send, as Twilio lists it, and heeds STOP; None: nobody does."""
        self.settings = settings
        self.journal = DeliveryJournal()
        self.phones = Phones() if carrier is None else carrier.phones
        self._carrier = carrier
        self._courier = courier
        self._timing = timing

    async def send_text(self, text: Text) -> list[Delivery]:
        """Deliver a phone's text to the inbound webhook; one delivery per copy, all with the same SID and token.

        Raises ValidationError when sender or recipient is no address.
        """
        sender = parse_address(text.sender)
        recipient = parse_address(text.recipient) if text.recipient else self._own_address(sender)
        media_urls = tuple(text.media_urls)
        message_sid = text.message_sid or new_message_sid(has_media=bool(media_urls))
        event = Event(
            kind=EventKind.TEXT,
            message_sid=message_sid,
            sender=sender,
            recipient=recipient,
            pairs=inbound_form(
                message_sid=message_sid,
                account_sid=self.settings.account_sid,
                sender=sender,
                recipient=recipient,
                body=text.body,
                media_urls=media_urls,
                messaging_service_sid=self.settings.messaging_service_sid,
                extra=text.extra,
            ),
            url=self.settings.sms_url,
            fallback_url=self.settings.fallback_url,
            judge=judge_inbound,
        )
        self.phones.add(sender, SentText(message_sid, recipient, text.body, media_urls, self._timing.now()))
        if self._carrier is not None:
            self._tell_carrier(self._carrier, message_sid, sender, recipient, text)
        token = str(uuid4())
        return list(await asyncio.gather(*(self._deliver(event, token) for _ in range(text.copies))))

    async def report_statuses(self, sequence: StatusSequence) -> list[Delivery]:
        """Deliver the callbacks one after the other, in the order asked for; repeats keep the token of their event.

        Raises ValidationError for a status Twilio does not have, or a recipient that is no address.
        """
        if unknown := [status for status in sequence.statuses if status not in STATUSES]:
            raise ValidationError(f"not a message status: {', '.join(unknown)}", details={"statuses": list(STATUSES)})
        recipient = parse_address(sequence.recipient) if sequence.recipient else None
        tokens = {status: str(uuid4()) for status in sequence.statuses}
        deliveries: list[Delivery] = []
        for place, status in enumerate(_arrange(sequence)):
            if place and sequence.gap_ms:
                await self._timing.sleep(sequence.gap_ms / 1000)
            event = self._status_event(sequence, status, recipient)
            deliveries.append(await self._deliver(event, tokens[status]))
        return deliveries

    def _tell_carrier(self, carrier: Carrier, message_sid: str, sender: str, recipient: str, text: Text) -> None:
        carrier.opt_outs.hear(sender, recipient, text.body)
        carrier.take_inbound(
            Message(
                provider="twilio",
                id=message_sid,
                sender=sender,
                recipient=recipient,
                body=text.body,
                media_urls=tuple(text.media_urls),
                profile=self.settings.messaging_service_sid,
            )
        )

    def _status_event(self, sequence: StatusSequence, status: str, recipient: str | None) -> Event:
        sender = self._own_address(recipient)
        return Event(
            kind=EventKind.STATUS,
            message_sid=sequence.message_sid,
            message_status=status,
            sender=sender,
            recipient=recipient,
            pairs=status_form(
                message_sid=sequence.message_sid,
                account_sid=self.settings.account_sid,
                status=status,
                sender=sender,
                recipient=recipient,
                now=self._timing.now(),
                error_code=sequence.error_code,
                messaging_service_sid=self.settings.messaging_service_sid,
            ),
            url=self.settings.status_url,
            judge=judge_callback,
        )

    async def _deliver(self, event: Event, token: str) -> Delivery:
        delivery = await self._courier.deliver(event, idempotency_token=token)
        self.journal.add(delivery)
        return delivery

    def _own_address(self, counterpart: str | None) -> str:
        channel = channel_of(counterpart or "")
        return f"{channel}:{self.settings.phone_number}" if channel else self.settings.phone_number


def _arrange(sequence: StatusSequence) -> list[str]:
    statuses = [status for status in sequence.statuses for _ in range(sequence.repeats)]
    if sequence.order == "documented":
        return sorted(statuses, key=STATUSES.index)
    if sequence.order == "shuffled":
        random.Random(sequence.seed).shuffle(statuses)  # noqa: S311  # a repeatable order, not a secret
    return statuses

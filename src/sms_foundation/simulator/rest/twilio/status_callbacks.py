"""Receipts as Twilio reports them: signed status callbacks to the URL given with the message."""

from uuid import uuid4

from sms_foundation.simulator.answers import judge_callback
from sms_foundation.simulator.carrier.receipts import Receipt
from sms_foundation.simulator.delivery import Event, WebhookCourier
from sms_foundation.simulator.forms import status_form
from sms_foundation.simulator.journal import DeliveryJournal, EventKind
from sms_foundation.simulator.settings import SimulatorSettings


class StatusCallbacks:
    """Delivers receipts with the retries that the callback URL's fragment asks for, and no others."""

    def __init__(self, settings: SimulatorSettings, courier: WebhookCourier, journal: DeliveryJournal) -> None:
        self._settings = settings
        self._courier = courier
        self._journal = journal

    async def report(self, receipt: Receipt) -> bool:
        """Deliver `receipt`; always True, since Twilio itself does not come back later."""
        message = receipt.message
        assert message.callback_url is not None  # noqa: S101  # the carrier reports nothing else
        event = Event(
            kind=EventKind.STATUS,
            message_sid=message.id,
            message_status=receipt.stage.value,
            sender=message.sender,
            recipient=message.recipient,
            pairs=status_form(
                message_sid=message.id,
                account_sid=self._settings.account_sid,
                status=receipt.stage.value,
                sender=message.sender,
                recipient=message.recipient,
                now=receipt.at,
                error_code=None if receipt.error_code is None else str(receipt.error_code),
                messaging_service_sid=message.profile,
            ),
            url=message.callback_url,
            judge=judge_callback,
        )
        self._journal.add(await self._courier.deliver(event, idempotency_token=str(uuid4())))
        return True

"""All providers' REST APIs together: which path goes to which dialect, and which dialect delivers whose receipts."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from sms_foundation.core.errors import ValidationError
from sms_foundation.simulator.account import Text
from sms_foundation.simulator.carrier.carrier import Carrier
from sms_foundation.simulator.carrier.messages import Message
from sms_foundation.simulator.delivery import WebhookCourier
from sms_foundation.simulator.journal import Delivery, DeliveryJournal, SentText
from sms_foundation.simulator.numbers import parse_address
from sms_foundation.simulator.rest import messagebird, telnyx, vonage
from sms_foundation.simulator.rest.callbacks import CallbackSender
from sms_foundation.simulator.rest.messagebird import MessageBirdApi
from sms_foundation.simulator.rest.telnyx import TelnyxApi
from sms_foundation.simulator.rest.twilio import api as twilio
from sms_foundation.simulator.rest.twilio.api import TwilioApi
from sms_foundation.simulator.rest.twilio.parameters import PROVIDER as TWILIO
from sms_foundation.simulator.rest.twilio.places import SERVICES
from sms_foundation.simulator.rest.twilio.status_callbacks import StatusCallbacks
from sms_foundation.simulator.rest.vonage import VonageApi
from sms_foundation.simulator.settings import SimulatorSettings

HandIn = Callable[[Message, str], Awaitable[Delivery]]

_PREFIXES = (twilio.PREFIX, SERVICES, messagebird.PREFIX, vonage.PREFIX, telnyx.PREFIX)


class ProviderApis:
    """The REST side of every simulated provider over one carrier; close it when done."""

    def __init__(
        self, settings: SimulatorSettings, carrier: Carrier, courier: WebhookCourier, journal: DeliveryJournal
    ) -> None:
        self._settings = settings
        self._carrier = carrier
        self._callbacks = CallbackSender(settings, carrier.timing, journal)
        twilio_api = TwilioApi(settings, carrier)
        messagebird_api = MessageBirdApi(carrier, self._callbacks)
        vonage_api = VonageApi(carrier, self._callbacks)
        telnyx_api = TelnyxApi(carrier, self._callbacks)
        self.routes: list[Route] = [
            *twilio_api.list_routes(),
            *messagebird_api.list_routes(),
            *vonage_api.list_routes(),
            *telnyx_api.list_routes(),
        ]
        carrier.receipts.use(
            {
                TWILIO: StatusCallbacks(settings, courier, journal).report,
                messagebird.PROVIDER: messagebird_api.report,
                vonage.PROVIDER: vonage_api.report,
                telnyx.PROVIDER: telnyx_api.report,
            }
        )

        self._inbound: dict[str, tuple[Callable[[], str], HandIn]] = {
            messagebird.PROVIDER: (messagebird.new_message_id, messagebird_api.hand_in),
            vonage.PROVIDER: (vonage.new_message_id, vonage_api.hand_in),
            telnyx.PROVIDER: (telnyx.new_message_id, telnyx_api.hand_in),
        }

    async def send_text(self, provider: str, text: Text) -> list[Delivery]:
        """Deliver a phone's text through any provider but Twilio, whose account does it; one delivery per copy.

        Raises ValidationError for an address or provider that is none, and for what only Twilio has.
        """
        if provider not in self._inbound:
            raise ValidationError(f"not a provider a phone can text through: {', '.join(self._inbound)}")
        if text.message_sid is not None or text.extra or text.media_urls:
            raise ValidationError("message_sid, parameters and media belong to Twilio's webhook")
        sender = parse_address(text.sender)
        recipient = parse_address(text.recipient) if text.recipient else self._settings.phone_number
        new_message_id, hand_in = self._inbound[provider]
        message = Message(provider=provider, id=new_message_id(), sender=sender, recipient=recipient, body=text.body)
        self._carrier.take_inbound(message)
        sent = SentText(message.id, recipient, text.body, (), message.accepted_at)
        self._carrier.phones.add(sender, sent)
        self._carrier.opt_outs.hear(sender, recipient, text.body)
        url = f"{self._settings.signed_base_url}/webhook/{provider}/sms"
        return list(await asyncio.gather(*(hand_in(message, url) for _ in range(text.copies))))

    async def close(self) -> None:
        await self._callbacks.close()


class ProvidersFirst:
    """Outermost layer: the REST calls of a load test go past the request log and the control API's framework."""

    def __init__(self, apis: ProviderApis, rest: ASGIApp) -> None:
        self._providers = Router(apis.routes, redirect_slashes=False)
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(_PREFIXES):
            await self._providers(scope, receive, send)
        else:
            await self._rest(scope, receive, send)

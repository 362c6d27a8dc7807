"""All providers' REST APIs together: which path goes to which dialect, and which dialect delivers whose receipts."""

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from sms_foundation.simulator.carrier.carrier import Carrier
from sms_foundation.simulator.delivery import WebhookCourier
from sms_foundation.simulator.journal import DeliveryJournal
from sms_foundation.simulator.rest import messagebird, telnyx, vonage
from sms_foundation.simulator.rest.callbacks import CallbackSender
from sms_foundation.simulator.rest.messagebird import MessageBirdApi
from sms_foundation.simulator.rest.telnyx import TelnyxApi
from sms_foundation.simulator.rest.twilio import api as twilio
from sms_foundation.simulator.rest.twilio.api import TwilioApi
from sms_foundation.simulator.rest.twilio.parameters import PROVIDER as TWILIO
from sms_foundation.simulator.rest.twilio.status_callbacks import StatusCallbacks
from sms_foundation.simulator.rest.vonage import VonageApi
from sms_foundation.simulator.settings import SimulatorSettings

_PREFIXES = (twilio.PREFIX, messagebird.PREFIX, vonage.PREFIX, telnyx.PREFIX)


class ProviderApis:
    """The REST side of every simulated provider over one carrier; close it when done."""

    def __init__(
        self, settings: SimulatorSettings, carrier: Carrier, courier: WebhookCourier, journal: DeliveryJournal
    ) -> None:
        self._callbacks = CallbackSender(settings)
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

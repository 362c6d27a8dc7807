"""Everything one running simulator holds, made in one place."""

from dataclasses import dataclass

from sms_foundation.simulator.account import SimulatedAccount
from sms_foundation.simulator.carrier.carrier import Carrier
from sms_foundation.simulator.crowd.runs import CrowdRuns
from sms_foundation.simulator.delivery import WebhookCourier
from sms_foundation.simulator.faults.book import FaultBook
from sms_foundation.simulator.journal import Phones
from sms_foundation.simulator.monitor.state import Monitor
from sms_foundation.simulator.rest.app import ProviderApis
from sms_foundation.simulator.settings import SimulatorSettings
from sms_foundation.simulator.timing import Timing


@dataclass(frozen=True, slots=True)
class Simulator:
    settings: SimulatorSettings
    timing: Timing
    courier: WebhookCourier
    carrier: Carrier
    account: SimulatedAccount
    apis: ProviderApis
    crowds: CrowdRuns
    monitor: Monitor

    async def close(self) -> None:
        """Stop a running crowd and everything on its way, and give the connections back."""
        await self.crowds.close()
        await self.carrier.close()
        await self.apis.close()
        await self.courier.close()


def make_courier(settings: SimulatorSettings, timing: Timing) -> WebhookCourier:
    return WebhookCourier(
        auth_token=settings.auth_token,
        public_base_url=settings.signed_base_url,
        deliver_base_url=settings.service_url,
        timing=timing,
    )


def make_simulator(settings: SimulatorSettings, timing: Timing) -> Simulator:
    courier = make_courier(settings, timing)
    scenario = settings.scenario
    faults = FaultBook(timing.monotonic, scenario.seed)
    for rule in scenario.faults:
        faults.add(rule)
    carrier = Carrier(timing, phones=Phones(), faults=faults, travel=scenario.travel, seed=scenario.seed)
    account = SimulatedAccount(settings, courier, timing, carrier)
    return Simulator(
        settings=settings,
        timing=timing,
        courier=courier,
        carrier=carrier,
        account=account,
        apis=ProviderApis(settings, carrier, courier, account.journal),
        crowds=CrowdRuns(account, timing),
        monitor=Monitor(api_key=settings.monitor_api_key),
    )

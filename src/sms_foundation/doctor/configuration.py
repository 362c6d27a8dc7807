"""Settings that contradict each other, or the place they are used in; what refuses to start is not looked for here."""

from typing import Final
from urllib.parse import urlsplit

from sms_foundation.core.config import LOCAL_ACCOUNT_SID, LOCAL_PHONE_NUMBER, Settings
from sms_foundation.doctor.context import Context
from sms_foundation.doctor.findings import Finding, Severity, few
from sms_foundation.providers.generic.adapter import GenericConfig
from sms_foundation.providers.registry import AnyProviderConfig
from sms_foundation.providers.twilio.adapter import TwilioConfig

_THIS_MACHINE: Final = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})  # noqa: S104  # compared, not bound
# Before the call a process may wait so long for its turn (`messaging.outbound.dispatch`).
_TURN_S: Final = 10.0


async def check_settings(context: Context) -> list[Finding]:
    """Look at the settings this command was given, which are to be those of the service."""
    settings, configs = context.settings, context.configs
    found = [*_check_providers(settings, configs), *_check_times(settings, configs)]
    if not settings.is_local:
        found += [*_check_test_values(configs), *_check_base_url(settings)]
    return found


def _check_providers(settings: Settings, configs: tuple[AnyProviderConfig, ...]) -> list[Finding]:
    if not configs:
        return [
            Finding(
                name="no_providers",
                why="nothing can be sent, and there are no webhooks",
                do="set PROVIDERS or TWILIO_AUTH_TOKEN (docs/providers.md); run this with the service's own settings",
            )
        ]
    sending = [each for each in configs if each.weight > 0]
    mute = [each.name for each in sending if not each.senders or _has_no_account(each)]
    found = []
    if not sending or len(mute) == len(sending):
        found.append(
            Finding(
                name="no_provider_sends",
                count=max(len(mute), 1),
                examples=few(mute),
                why="every message fails with no_provider: none has a weight, an account and a sender",
                do="set `senders` and `weight` in PROVIDERS, or TWILIO_ACCOUNT_SID and TWILIO_PHONE_NUMBER",
            )
        )
    elif len(sending) - len(mute) == 1 and not settings.is_local:
        found.append(
            Finding(
                name="no_fallback_provider",
                examples=few([each.name for each in sending if each.name not in mute]),
                severity=Severity.NOTICE,
                why="while this one is in trouble nothing is sent: there is no second",
                do="add another to PROVIDERS (docs/providers.md)",
            )
        )
    return found


def _has_no_account(config: AnyProviderConfig) -> bool:
    return isinstance(config, TwilioConfig) and not config.account_sid


def _check_times(settings: Settings, configs: tuple[AnyProviderConfig, ...]) -> list[Finding]:
    found = []
    half_s = settings.work_lease_s / 2
    slow = [each.name for each in configs if _TURN_S + each.connect_timeout_s + each.read_timeout_s > half_s]
    if slow:
        found.append(
            Finding(
                name="lease_too_short",
                count=len(slow),
                examples=few(slow),
                why="a call may take longer than half a lease, after which it is broken off and its outcome unknown",
                do="raise WORK_LEASE_S, or lower read_timeout_s of these providers",
            )
        )
    if settings.unknown_give_up_s <= settings.unknown_settle_s:
        found.append(
            Finding(
                name="unknown_given_up_at_once",
                why="a send without an answer is put aside before anybody has looked for it at the provider",
                do="set UNKNOWN_GIVE_UP_S to several times UNKNOWN_SETTLE_S",
            )
        )
    return found


def _check_test_values(configs: tuple[AnyProviderConfig, ...]) -> list[Finding]:
    simulated = [each.name for each in configs if _is_simulated(each)]
    if not simulated:
        return []
    return [
        Finding(
            name="test_providers",
            count=len(simulated),
            examples=few(simulated),
            why="these are the simulator, on this machine, or have Twilio's test number: nothing reaches a phone",
            do="put the account's own credentials, numbers and api_base_url into PROVIDERS",
        )
    ]


def _is_simulated(config: AnyProviderConfig) -> bool:
    address = config.send_url if isinstance(config, GenericConfig) else config.api_base_url
    is_here = (urlsplit(str(address)).hostname or "") in _THIS_MACHINE
    is_public_account = isinstance(config, TwilioConfig) and config.account_sid == LOCAL_ACCOUNT_SID
    return is_here or is_public_account or LOCAL_PHONE_NUMBER in config.senders


def _check_base_url(settings: Settings) -> list[Finding]:
    if settings.public_base_url is None:
        return [
            Finding(
                name="public_url_not_set",
                why="there are no webhooks: their signatures could not be checked, and providers are not told where to "
                "report to",
                do="set PUBLIC_BASE_URL to scheme and host as providers call them: https://YOUR-HOST",
            )
        ]
    if not settings.public_base_url.startswith("https://"):
        return [
            Finding(
                name="public_url_not_https",
                why="texts and numbers travel in the clear, and anybody on the way can read them",
                do="set PUBLIC_BASE_URL to https://..., and the webhooks at the providers",
            )
        ]
    return []

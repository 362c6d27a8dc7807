"""Do the providers hand in texts where we expect them? Asked of the providers that can be asked: Twilio."""

from typing import Final

from sms_foundation.doctor.context import Context
from sms_foundation.doctor.findings import Finding, Severity, Tally
from sms_foundation.providers.errors import ErrorKind, ProviderError
from sms_foundation.providers.registry import open_connections
from sms_foundation.providers.twilio.adapter import TwilioConfig
from sms_foundation.providers.twilio.webhook_settings import AskedWebhooks, InboundWebhook, read_inbound_webhooks
from sms_foundation.webhooks.router import sms_path, status_path

_WHERE: Final = "at Twilio: Phone Numbers, Manage, Active numbers; or Messaging, Services, Integration"


class WebhooksUnaskedError(Exception):
    """A provider did not answer; the text says which, and why."""


async def check_webhooks(context: Context) -> list[Finding]:
    """Ask every provider that can be asked where it hands texts in. Raises WebhooksUnaskedError."""
    silent = Tally()
    found: list[Finding] = []
    for config in context.configs:
        if not isinstance(config, TwilioConfig):
            silent.add(config.name)
            continue
        http = open_connections(config)
        try:
            asked = await read_inbound_webhooks(config, http)
        except ProviderError as error:
            if error.kind is not ErrorKind.ACCOUNT:
                raise WebhooksUnaskedError(f"{config.name}: {error.kind}") from None
            found.append(_refused(config.name))
            continue
        finally:
            await http.aclose()
        found += compare(asked, config.name, base=context.settings.public_base_urls)
    return [
        *found,
        *silent.finding(
            "webhooks_cannot_be_asked",
            why="this kind of provider is not asked where it hands texts in",
            do=f"compare by hand, in its console: PUBLIC_BASE_URL{sms_path('NAME')} and {status_path('NAME')}",
            severity=Severity.NOTICE,
        ),
    ]


def compare(asked: AskedWebhooks, name: str, *, base: tuple[str, ...]) -> list[Finding]:
    """Return what is wrong about the webhooks of the account called `name`; none without a public URL to compare to."""
    wanted = {each + sms_path(name) for each in base}
    statuses = {each + status_path(name) for each in base}
    drift, off, fallback, retries, overruled, status = (Tally() for _ in range(6))
    decisive = [each for each in asked.webhooks if not each.is_overruled]
    for each in asked.webhooks:
        if each.is_overruled:
            overruled.add(each.place)
        elif not each.url:
            off.add(each.place)
        elif wanted and _differs(each, wanted):
            drift.add(each.place)
        elif "#" not in each.url:
            retries.add(each.place)
        if each.status_url and statuses and _without_fragment(each.status_url) not in statuses:
            status.add(each.place)
    for each in decisive:
        if not each.fallback_url:
            fallback.add(each.place)
    return [
        *off.finding(
            "webhook_not_set",
            why="texts to these numbers reach nobody: Twilio has no URL to hand them to",
            do=f"set {_show(wanted)} {_WHERE}; then `sms-foundation reconcile --since 7d --only inbound`",
        ),
        *drift.finding(
            "webhook_differs",
            why="texts to these numbers are handed to somebody else, or refused because the signature is over another "
            "URL than PUBLIC_BASE_URL",
            do=f"set {_show(wanted)}, POST, {_WHERE}; then `sms-foundation reconcile --since 7d --only inbound`",
        ),
        *status.finding(
            "status_callback_differs",
            why="the service's status callback leads elsewhere; ours goes along with every message and counts, theirs "
            "is called for messages of others",
            do=f"remove it, or set {_show(statuses)}",
            severity=Severity.NOTICE,
        ),
        *overruled.finding(
            "webhook_overruled",
            why="a TwiML application decides where texts to it go, or (a service, MG...) each number by itself",
            do="take the application away from the number, or see that its messaging URL is ours",
            severity=Severity.NOTICE,
        ),
        *fallback.finding(
            "no_fallback_url",
            why="when the webhook fails for good Twilio has nowhere else to go with the text",
            do=f"a fallback URL at another host or region that leads here, {_WHERE}",
            severity=Severity.NOTICE,
        ),
        *retries.finding(
            "webhook_without_retries",
            why="without the fragment #rc=5&rp=all Twilio tries only failed connections again, and those once",
            do=f"set {_show(wanted)}#rc=5&rp=all {_WHERE}",
            severity=Severity.NOTICE,
        ),
        *_absent(asked, name),
    ]


def _differs(webhook: InboundWebhook, wanted: set[str]) -> bool:
    return _without_fragment(webhook.url) not in wanted or webhook.method not in ("POST", "")


def _without_fragment(url: str) -> str:
    return url.partition("#")[0]


def _show(urls: set[str]) -> str:
    return min(urls, default="PUBLIC_BASE_URL" + sms_path("NAME"))


def _refused(name: str) -> Finding:
    return Finding(
        name="provider_refuses_us",
        examples=(name,),
        why="Twilio does not accept our credentials: nothing can be sent through this account",
        do="check account_sid and auth_token (or the API key, which must be able to read numbers) in PROVIDERS or "
        "TWILIO_AUTH_TOKEN; `sms-foundation providers` says what the last sends came to",
    )


def _absent(asked: AskedWebhooks, name: str) -> list[Finding]:
    found = []
    if asked.absent:
        found.append(
            Finding(
                name="senders_not_in_account",
                count=asked.absent,
                examples=(name,),
                why="the account does not have these numbers: what is sent from them is refused",
                do="correct `senders` in PROVIDERS, or TWILIO_PHONE_NUMBER",
            )
        )
    if asked.unasked:
        found.append(
            Finding(
                name="senders_cannot_be_asked",
                count=asked.unasked,
                examples=(name,),
                why="short codes and names are not asked about",
                do="compare their webhooks by hand, in the console",
                severity=Severity.NOTICE,
            )
        )
    return found

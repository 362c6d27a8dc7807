"""Does PUBLIC_BASE_URL lead to this service? Called from here, as a provider would; nothing is stored by it."""

from typing import Final
from urllib.parse import urlsplit

from sms_foundation.core.http import HttpCallError, HttpClient, HttpResponse, create_http_client
from sms_foundation.doctor.context import Context
from sms_foundation.doctor.findings import Finding
from sms_foundation.providers.calls import form_body, read_object
from sms_foundation.providers.registry import AnyProviderConfig
from sms_foundation.providers.twilio.adapter import TwilioConfig
from sms_foundation.providers.twilio.authenticity import as_signed
from sms_foundation.providers.twilio.signature import sign
from sms_foundation.webhooks.router import sms_path

_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
_JSON: Final = {"Content-Type": "application/json"}
# How a webhook of ours says no before it has read anything: it may also want another method or form of body.
_REFUSALS: Final = frozenset({"sms.forbidden", "sms.method_not_allowed", "sms.unsupported_media_type"})
# Signed, it is believed to be Twilio's and refused for what it lacks: no text without a MessageSid is stored.
_NOT_A_TEXT: Final = [("Body", "")]
_COMPARE: Final = (
    "compare it with the URL in the browser, the load balancer and the provider's console: scheme, host, port"
)


async def check_public_url(context: Context) -> list[Finding]:
    """Ask for life, then call webhooks: unsigned they must be refused, signed by our token understood."""
    base = context.settings.public_base_url
    if base is None:
        return []
    async with create_http_client(connect_timeout_s=5.0, read_timeout_s=10.0) as http:
        try:
            finding = await _check_life(http, base) or await _check_webhooks(http, base, context.configs)
        except HttpCallError as error:
            finding = _unreachable(str(error))
    return [] if finding is None else [finding]


async def _check_life(http: HttpClient, base: str) -> Finding | None:
    response = await http.request("GET", f"{base}/health/live")
    if (finding := _redirect(response)) is not None:
        return finding
    if response.status == 200 and read_object(response).fields == {"ok": True}:
        return None
    if response.status >= 500:
        return _unreachable(f"/health/live is answered with status {response.status}")
    # An instance may be told to show /health to nobody but a few networks; the webhooks will tell who it is.
    return None if _code(response) == "sms.unauthorized" else _another(f"/health/live is {response.status}")


async def _check_webhooks(http: HttpClient, base: str, configs: tuple[AnyProviderConfig, ...]) -> Finding | None:
    for config in configs:
        url = base + sms_path(config.name)
        is_form = isinstance(config, TwilioConfig)
        body = form_body(_NOT_A_TEXT) if is_form else b"{}"
        unsigned = await http.request("POST", url, headers=_FORM if is_form else _JSON, body=body)
        if (finding := _redirect(unsigned)) is not None:
            return finding
        if _code(unsigned) not in _REFUSALS or unsigned.status < 400:
            return _another(f"a webhook of {config.name} without signature is answered with {unsigned.status}, not 403")
        if isinstance(config, TwilioConfig) and (finding := await _call_signed(http, url, config)) is not None:
            return finding
    return None


async def _call_signed(http: HttpClient, url: str, config: TwilioConfig) -> Finding | None:
    headers = {**_FORM, "X-Twilio-Signature": sign(config.auth_tokens[0], as_signed(url), _NOT_A_TEXT)}
    response = await http.request("POST", url, headers=headers, body=form_body(_NOT_A_TEXT))
    if response.status == 400 and _code(response) == "sms.validation_error":
        return None
    return _another_configuration(config.name, response.status)


def _code(response: HttpResponse) -> str:
    return read_object(response).text("error.code")


def _unreachable(reason: str) -> Finding:
    return Finding(
        name="public_url_unreachable",
        why=f"providers cannot hand in texts or statuses: {reason}",
        do=f"`curl -i PUBLIC_BASE_URL/health/live` from outside; {_COMPARE}; see that the service runs",
    )


def _redirect(response: HttpResponse) -> Finding | None:
    if not 300 <= response.status < 400:
        return None
    there = urlsplit(response.headers.get("Location", ""))
    host = f"{there.scheme}://{there.hostname}" if there.hostname else "another path"
    return Finding(
        name="public_url_redirects",
        why=f"it leads to {host}: a provider that follows drops the form, or signs another URL than the one called",
        do="set PUBLIC_BASE_URL, and the webhooks at the providers, to where it leads in the end",
    )


def _another(what: str) -> Finding:
    return Finding(
        name="public_url_leads_elsewhere",
        why=f"something answers there, and it is not this service: {what}",
        do=f"{_COMPARE}; the name may point to an old machine, a default page or another service",
    )


def _another_configuration(provider: str, status: int) -> Finding:
    return Finding(
        name="public_url_leads_to_other_settings",
        examples=(provider,),
        why="a webhook signed with our token for this URL is refused there "
        f"({status}): it is another deployment, or runs with another token or PUBLIC_BASE_URL than this command",
        do="deploy the same TWILIO_AUTH_TOKEN (PROVIDERS) and PUBLIC_BASE_URL everywhere; run this with the service's "
        "own settings",
    )

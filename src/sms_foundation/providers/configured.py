"""Which providers a process has: those of PROVIDERS, else the Twilio account of the settings, else the simulator's."""

from sms_foundation.core.config import LOCAL_ACCOUNT_SID, LOCAL_AUTH_TOKEN, LOCAL_PHONE_NUMBER, Settings, variables
from sms_foundation.core.errors import StartupError
from sms_foundation.core.local_accounts import (
    LOCAL_MESSAGEBIRD_ACCESS_KEY,
    LOCAL_MESSAGEBIRD_SIGNING_KEY,
    LOCAL_SECRETS,
    LOCAL_TELNYX_API_KEY,
    LOCAL_TELNYX_PUBLIC_KEY,
    LOCAL_VONAGE_API_KEY,
    LOCAL_VONAGE_API_SECRET,
    LOCAL_VONAGE_SIGNATURE_METHOD,
    LOCAL_VONAGE_SIGNATURE_SECRET,
)
from sms_foundation.providers.messagebird.adapter import MessageBirdConfig
from sms_foundation.providers.registry import AnyProviderConfig, parse_provider_configs
from sms_foundation.providers.telnyx.adapter import TelnyxConfig
from sms_foundation.providers.twilio.adapter import TwilioConfig
from sms_foundation.providers.vonage.adapter import VonageConfig


def configured_providers(settings: Settings) -> tuple[AnyProviderConfig, ...]:
    """Return the configured providers; none where nothing is configured.

    Raises StartupError: one line that names what is wrong, never a value.
    """
    text = _providers_text(settings)
    if text is not None:
        return _parse(text, settings)
    if settings.uses_simulator:
        return simulated_providers(settings.simulator_url)
    if settings.twilio_auth_token is None:
        return ()
    return (_twilio_of_settings(settings),)


def are_simulated(settings: Settings) -> bool:
    """Tell whether the configured providers are the simulator's: what they say is nothing about the real ones."""
    text = _providers_text(settings)
    return settings.uses_simulator if text is None else _holds_local_secret(text)


def simulated_providers(simulator_url: str) -> tuple[AnyProviderConfig, ...]:
    """Return the accounts that the simulator plays; they share a number, so that any of them can carry an answer."""
    common = {"senders": [LOCAL_PHONE_NUMBER], "sender_rates": {"*": None}, "allows_short_codes": True}
    twilio = {"account_sid": LOCAL_ACCOUNT_SID, "auth_token": LOCAL_AUTH_TOKEN, "has_media": True}
    messagebird = {"access_key": LOCAL_MESSAGEBIRD_ACCESS_KEY, "signing_key": LOCAL_MESSAGEBIRD_SIGNING_KEY}
    vonage = {
        "api_key": LOCAL_VONAGE_API_KEY,
        "api_secret": LOCAL_VONAGE_API_SECRET,
        "signature_secret": LOCAL_VONAGE_SIGNATURE_SECRET,
        "signature_method": LOCAL_VONAGE_SIGNATURE_METHOD,
    }
    telnyx = {"api_key": LOCAL_TELNYX_API_KEY, "public_key": LOCAL_TELNYX_PUBLIC_KEY, "has_media": True}

    def place(name: str, path: str = "") -> dict[str, object]:
        return {"name": name, "api_base_url": simulator_url + path, **common}

    return (
        TwilioConfig.model_validate(twilio | place("twilio")),
        MessageBirdConfig.model_validate(messagebird | place("messagebird", "/messagebird")),
        VonageConfig.model_validate(vonage | place("vonage", "/vonage")),
        TelnyxConfig.model_validate(telnyx | place("telnyx", "/telnyx")),
    )


def _providers_text(settings: Settings) -> str | None:
    if settings.providers is not None:
        return settings.providers.get_secret_value()
    if settings.providers_file is None:
        return None
    try:
        return settings.providers_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is no UTF-8 text"
        raise StartupError(f"PROVIDERS_FILE {settings.providers_file}: {reason}") from None


def _parse(text: str, settings: Settings) -> tuple[AnyProviderConfig, ...]:
    if not settings.is_local and _holds_local_secret(text):
        raise StartupError("PROVIDERS holds a public secret of the simulator: allowed only with APP_ENV=local")
    try:
        return parse_provider_configs(text, variables=variables())
    except ValueError as error:
        raise StartupError(f"PROVIDERS: {error}") from None


def _holds_local_secret(text: str) -> bool:
    known = variables()
    return any(secret in text or secret in known.values() for secret in LOCAL_SECRETS)


def _twilio_of_settings(settings: Settings) -> TwilioConfig:
    sids = [sid.strip() for sid in (settings.twilio_account_sid or "").split(",") if sid.strip()]
    return TwilioConfig.model_validate(
        {
            "name": "twilio",
            "account_sid": sids[0] if sids else "",
            "inbound_account_sids": sids[1:],
            "auth_token": settings.twilio_auth_token,
            "auth_token_previous": settings.twilio_auth_token_previous,
            "senders": [settings.twilio_phone_number] if settings.twilio_phone_number else [],
            "has_media": True,
        }
    )

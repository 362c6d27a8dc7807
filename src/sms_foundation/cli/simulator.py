"""`sms-foundation simulator`."""

from sms_foundation.core.config import LOCAL_ACCOUNT_SID, LOCAL_AUTH_TOKEN, LOCAL_PHONE_NUMBER, Settings, load_settings
from sms_foundation.simulator.commands import build_commands
from sms_foundation.simulator.settings import SimulatorSettings


def simulator_settings(settings: Settings, *, port: int = 8001) -> SimulatorSettings:
    """Return a simulator that plays the account this service trusts."""
    return SimulatorSettings(
        port=port,
        service_url=f"http://127.0.0.1:{settings.port}",
        public_base_url=settings.public_base_url,
        account_sid=next(iter(settings.twilio_account_sids), LOCAL_ACCOUNT_SID),
        auth_token=settings.twilio_auth_tokens[0] if settings.twilio_auth_tokens else LOCAL_AUTH_TOKEN,
        phone_number=settings.twilio_phone_number or LOCAL_PHONE_NUMBER,
        monitor_api_key=settings.monitor_api_key.get_secret_value() if settings.monitor_api_key else None,
        log_level=settings.log_level,
        log_format=settings.log_format,
    )


commands = build_commands(simulator_settings(load_settings()))

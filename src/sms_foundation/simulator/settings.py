"""What a simulator needs to know: whom it plays, and where the service listens."""

from dataclasses import dataclass, field

from sms_foundation.core.config import LOCAL_ACCOUNT_SID, LOCAL_AUTH_TOKEN, LOCAL_PHONE_NUMBER
from sms_foundation.simulator.scenario import NO_SCENARIO, Scenario


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulatorSettings:
    """Values given by the composition root or the command line; the simulator itself reads no environment."""

    host: str = "127.0.0.1"
    """Address the control API and the Collections Monitor stand-in listen on."""
    port: int = 8001
    service_url: str = "http://127.0.0.1:8000"
    """Base URL to which webhooks are delivered."""
    public_base_url: str | None = None
    """Base URL that is signed, as it would be configured at Twilio; None: `service_url`."""
    sms_path: str = "/webhook/twilio/sms"
    """Path of the inbound webhook; may end in a connection-override fragment such as `#rc=3&rp=5xx,ct`."""
    status_path: str = "/webhook/twilio/status"
    """Path of the status callback; may carry a query and a fragment."""
    fallback_url: str | None = None
    """Absolute URL tried after the last failure of the inbound webhook; None: none is configured."""
    account_sid: str = LOCAL_ACCOUNT_SID
    auth_token: str = field(default=LOCAL_AUTH_TOKEN, repr=False)
    phone_number: str = LOCAL_PHONE_NUMBER
    """The organisation's own number, E.164: texts go to it unless they say otherwise."""
    messaging_service_sid: str | None = None
    """Sent with every webhook when set, as for a number inside a Messaging Service."""
    scenario: Scenario = NO_SCENARIO
    """How long messages travel, and how the providers misbehave from the start."""
    monitor_api_key: str | None = field(default=None, repr=False)
    """Bearer key the Collections Monitor stand-in asks for; None: it asks for none."""
    log_level: str = "INFO"
    """Lowest level that is logged while serving: DEBUG, INFO, WARNING or ERROR."""
    log_format: str = "auto"
    """json, console, or auto: console when standard output is a terminal."""

    @property
    def signed_base_url(self) -> str:
        """The base URL Twilio believes in, without a trailing slash."""
        return (self.public_base_url or self.service_url).rstrip("/")

    @property
    def sms_url(self) -> str:
        return self.signed_base_url + self.sms_path

    @property
    def status_url(self) -> str:
        return self.signed_base_url + self.status_path

    @property
    def own_url(self) -> str:
        """Where this simulator is reached from the same machine."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host  # noqa: S104  # compared, not bound
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

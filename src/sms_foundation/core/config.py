"""Settings: every value an operator can set, read once from the environment and `.env`, and checked together.

The only module that reads environment variables. `.env.example` lists every field; a test keeps the two in step.
"""

import os
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from dotenv import dotenv_values
from pydantic import AliasChoices, Field, SecretStr, StringConstraints, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from sms_foundation.core.errors import StartupError

# What the simulator signs with, and the service trusts, when no Twilio account is configured on a developer's machine.
LOCAL_ACCOUNT_SID = "AC" + "5e" * 16
LOCAL_AUTH_TOKEN = "local-simulator-token"  # noqa: S105  # public on purpose; refused outside APP_ENV=local and test
LOCAL_PHONE_NUMBER = "+15005550006"  # Twilio's magic "valid sender" test number


RateText = Annotated[str, StringConstraints(pattern="^(off|[1-9][0-9]{0,8}/[1-9][0-9]{0,4}[smhd])$")]
"""So many per so long: 60/1h, 6000/1m, 10/15m; off: any number."""
StuckHead = Annotated[str, StringConstraints(pattern="^(wait|skip:[1-9][0-9]?)$")]


class AppEnv(StrEnum):
    """Where the process runs; decides which defaults are safe."""

    LOCAL = "local"
    TEST = "test"
    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"


def _is_cloud_run() -> bool:
    # Source: https://cloud.google.com/run/docs/container-contract#env-vars
    return any(os.environ.get(name) for name in ("K_SERVICE", "CLOUD_RUN_JOB", "CLOUD_RUN_WORKER_POOL"))


def _default_data_dir() -> Path:
    state_home = os.environ.get("XDG_STATE_HOME")
    return (Path(state_home) if state_home else Path("~/.local/state").expanduser()) / "sms-foundation"


class Settings(BaseSettings):
    """All settings. Names are the environment variables in lower case; secrets never show in `repr`."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    app_env: AppEnv = Field(
        default_factory=lambda: AppEnv.PRODUCTION if _is_cloud_run() else AppEnv.LOCAL,
        description="local, test, development, staging or production; production on Cloud Run unless set",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="lowest level that is logged")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="json, console, or auto: console when standard output is a terminal"
    )
    google_cloud_project: str | None = Field(
        None, description="log lines name their trace as Google Cloud does, in this project, which links them there"
    )
    tracing: bool = Field(
        False, description="record spans with OpenTelemetry, set up by its own OTEL_ variables; needs the extra otel"
    )
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 on Cloud Run unless set")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes any free one")
    worker_port: int | None = Field(
        None, ge=1, le=65535, description="port on which `worker` answers /health and /metrics; unset: none"
    )
    public_base_url: str | None = Field(
        None,
        description="scheme and host under which providers reach this service, exactly as configured at Twilio; "
        "signatures are checked against it. Unset on a developer's machine: http://localhost:PORT and http://127.0.0.1:PORT",
    )
    default_region: str = Field("US", pattern="^[A-Z]{2}$", description="region of phone numbers written without +")

    database_url: SecretStr | None = Field(
        None,
        description="postgres:// or postgresql:// URL, sslmode allowed. Unset: an embedded PostgreSQL in SMS_DATA_DIR",
    )
    sms_data_dir: Path = Field(
        default_factory=_default_data_dir, description="where the embedded database keeps its files"
    )
    local_postgres_bin: Path | None = Field(
        None,
        validation_alias=AliasChoices("SMS_PG_BIN", "local_postgres_bin"),
        description="folder of PostgreSQL binaries for the embedded database; found by itself when unset",
    )
    database_pool_size: int = Field(10, ge=2, le=200, description="connections this process may hold at most")
    database_pool_timeout_s: float = Field(5.0, gt=0, description="longest wait for a free connection")
    database_connect_timeout_s: float = Field(5.0, gt=0, description="longest time to open a connection")
    database_command_timeout_s: float = Field(8.0, gt=0, description="longest time of one statement")
    database_application_name: str = Field("sms-foundation", max_length=63, description="seen in pg_stat_activity")
    database_pooler: Literal["auto", "none", "transaction"] = Field(
        "auto",
        description="transaction: no statement may assume a session (pgbouncer, Supabase). "
        "auto: transaction on port 6543 or with ?pgbouncer=true in DATABASE_URL",
    )
    auto_migrate: bool | None = Field(
        None, description="bring the schema up to date when serving; by default only with APP_ENV local or test"
    )

    twilio_account_sid: str | None = Field(
        None, description="accounts whose webhooks are accepted, comma-separated; unset: any with a valid signature"
    )
    twilio_auth_token: SecretStr | None = Field(None, description="verifies X-Twilio-Signature")
    twilio_auth_token_previous: SecretStr | None = Field(
        None, description="also accepted while a token is being rotated; remove it afterwards"
    )
    twilio_phone_number: str | None = Field(None, description="the organisation's number, E.164")
    providers: SecretStr | None = Field(
        None,
        description="all providers as a JSON list, see docs/providers.md; ${NAME} stands for a variable. Unset: "
        "one named twilio from the TWILIO_ settings, or the simulator's",
    )
    providers_file: Path | None = Field(None, description="file that holds the same, instead of PROVIDERS")
    simulator_url: str = Field("http://127.0.0.1:8001", description="where the simulator stands in for all providers")
    max_webhook_bytes: int = Field(262_144, ge=1024, description="larger webhook bodies are refused with 413")
    webhook_timeout_s: float = Field(
        10.0, gt=0, lt=15, description="answer 503 after so long without a commit; Twilio itself gives up after 15 s"
    )

    smart_encoding: bool = Field(
        False, description="replace typographic characters on sending where that saves segments"
    )
    message_validity_s: int = Field(
        86_400, ge=0, description="messages whose caller sets no limit are given up after so long; 0: never"
    )
    send_concurrency: int = Field(128, ge=4, le=1000, description="calls to providers at once per process")
    unknown_settle_s: float = Field(
        30.0, ge=0.1, description="a send without an answer is looked up at the provider after so long"
    )
    unknown_give_up_s: float = Field(
        3600.0, ge=1, description="what could not be confirmed by then is put aside for a person"
    )
    status_poll_after_s: float = Field(
        1800.0, ge=1, description="messages without a final status are asked about after so long"
    )
    stuck_head: StuckHead = Field(
        "wait", description="what those behind a failing message to the same phone do: wait, or skip:N after N attempts"
    )
    stuck_head_by_client: dict[str, StuckHead] = Field(
        {}, description="the same by client, as JSON, where it differs", examples=['{"campaigns": "skip:2"}']
    )
    redis_url: SecretStr | None = Field(None, description="keep rates in Redis instead of PostgreSQL; needs the extra")

    open_access: bool | None = Field(
        None,
        description="answer without asking who calls. By default only with APP_ENV local or test, and only callers on "
        "the same machine; true: everybody who reaches the port, refused in any other APP_ENV",
    )
    admin_api_key: SecretStr | None = Field(
        None, description="the first start takes this as the admin's key, instead of making and printing one"
    )
    sms_api_key: SecretStr | None = Field(None, description="the key with which `sms-foundation send` calls the API")
    forwarded_hops: int = Field(
        0,
        ge=0,
        le=9,
        description="proxies in front that add to X-Forwarded-For: the caller's address is so many from the right; "
        "0: the connection's own address. 1 on Cloud Run unless set",
    )
    operations_networks: str = Field(
        "private",
        description="from where /health and /metrics need no key: all, private (and this machine), none, or networks "
        "such as 10.0.0.0/8,203.0.113.7; from elsewhere a key with operations:read",
    )
    client_limit: RateText = Field(
        "6000/1m", description="requests a client may make, a batch counting its messages; `clients limit` sets others"
    )
    number_limit: RateText = Field(
        "60/1h", description="messages one phone may get, from all clients together; repetitions do not count"
    )
    sending_countries: str = Field(
        "",
        description="countries that may be texted (ISO 3166, such as US,CA), whatever number rules allow; unset: any. "
        "What a stolen key cannot change",
    )
    failure_limit: RateText = Field(
        "30/5m", description="wrong credentials from one address, before all of its are refused"
    )
    login_limit: RateText = Field(
        "10/15m",
        description="tries to log in as one person from one address; from all addresses together ten times as many",
    )
    idempotency_hours: int = Field(
        24, ge=24, le=48, description="how long the answer to a request with an Idempotency-Key is kept for repetitions"
    )
    signing_key: SecretStr | None = Field(
        None, description="RSA private key (PEM) that signs our tokens; several, newest first, while one is replaced"
    )
    signing_key_path: Path | None = Field(
        None,
        description="file, or folder of *.pem files, with the same, such as a mounted secret; read again every minute. "
        "Unset, and APP_ENV local or test: a key is made in SMS_DATA_DIR",
    )
    signing_key_grace_h: float = Field(
        24.0, ge=0.25, description="tokens of a replaced signing key are accepted for so long"
    )
    token_issuer: str | None = Field(None, description="`iss` of our own tokens; PUBLIC_BASE_URL unless set")
    outside_issuers: str | None = Field(
        None, description="issuers whose tokens are accepted besides our own, as a JSON list; see docs/access.md"
    )
    access_token_s: int = Field(900, ge=60, le=3600, description="how long an access token is valid")
    refresh_token_days: int = Field(30, ge=1, le=365, description="how long somebody who does nothing stays logged in")
    invitation_hours: int = Field(72, ge=1, description="how long an invitation can be accepted")
    cors_allowed_origins: str = Field(
        "",
        description="web pages that may call the API from a browser, such as https://console.example.com, "
        "comma-separated; *: any, only with APP_ENV local, test or development. Unset with APP_ENV local: any",
    )

    monitor_api_url: str | None = Field(None, description="base URL of the Collections Monitor; unset: no lookups")
    monitor_api_key: SecretStr | None = Field(None, description="bearer key for the Collections Monitor")
    tenant_profile_api_url: str | None = Field(None, description="base URL that is told a tenant's language")
    monitor_timeout_s: float = Field(3.0, gt=0, description="connect and read timeout of one lookup request")

    work_in_process: bool = Field(True, description="run background work inside `serve`; off when workers run apart")
    work_concurrency: int = Field(32, ge=1, le=1000, description="pieces of work at once per process")
    work_poll_s: float = Field(1.0, gt=0, description="longest time until due work of other processes is noticed")
    work_lease_s: float = Field(60.0, ge=1, description="a crashed process's work is taken over after so long")
    work_max_attempts: int = Field(12, ge=1, description="failures after which work is put aside as dead")
    reconcile_interval_s: float = Field(
        900.0, ge=1, description="how often unknown numbers, missing statuses and missed texts are looked for"
    )

    shutdown_timeout_s: float = Field(10.0, ge=1, description="SIGTERM: everything is finished or handed back by then")

    @field_validator("log_level", mode="before")
    @classmethod
    def _accept_any_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("sms_data_dir", "local_postgres_bin", "providers_file", "signing_key_path")
    @classmethod
    def _expand_home(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser()  # no shell has done it for a line of `.env`

    @field_validator("public_base_url", "monitor_api_url", "tenant_profile_api_url", "simulator_url")
    @classmethod
    def _check_base_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _refuse_unsafe_combinations(self) -> Self:
        if _is_cloud_run():
            if self.database_url is None:
                raise ValueError(
                    "DATABASE_URL is not set: the embedded database cannot be used on Cloud Run, whose disk is memory"
                )
            if self.is_local:
                raise ValueError("APP_ENV=local and test open the service to everybody: not on Cloud Run")
            if "host" not in self.model_fields_set:
                self.host = "0.0.0.0"  # noqa: S104  # the container contract asks for it
            if "forwarded_hops" not in self.model_fields_set:
                self.forwarded_hops = 1  # Google's front end adds the caller's address, after what the caller claims
        if self.app_env is AppEnv.PRODUCTION:
            needed = ["database_url", "public_base_url"]
            if self.providers is None and self.providers_file is None:
                needed[1:1] = ["twilio_account_sid", "twilio_auth_token"]
            missing = [name.upper() for name in needed if getattr(self, name) is None]
            if missing:
                raise ValueError(f"{', '.join(missing)} must be set when APP_ENV=production")
        return self

    @model_validator(mode="after")
    def _refuse_what_is_open_to_everybody(self) -> Self:
        if self.is_local:
            return self
        if self.open_access:
            raise ValueError("OPEN_ACCESS=true opens the service to everybody: allowed only with APP_ENV=local")
        if self.app_env is not AppEnv.DEVELOPMENT and "*" in self.allowed_origins:
            raise ValueError("CORS_ALLOWED_ORIGINS=* is allowed only with APP_ENV local, test or development")
        tokens = (self.twilio_auth_token, self.twilio_auth_token_previous)
        if any(token is not None and token.get_secret_value() == LOCAL_AUTH_TOKEN for token in tokens):
            raise ValueError("TWILIO_AUTH_TOKEN is the simulator's public token: allowed only with APP_ENV=local")
        return self

    @property
    def is_local(self) -> bool:
        """A developer's machine or a test run, where public defaults are harmless."""
        return self.app_env in (AppEnv.LOCAL, AppEnv.TEST)

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """Origins of web pages that may call the API from a browser; `*` for any."""
        listed = tuple(origin.strip().rstrip("/") for origin in self.cors_allowed_origins.split(",") if origin.strip())
        return listed or (("*",) if self.app_env is AppEnv.LOCAL else ())

    @property
    def should_migrate(self) -> bool:
        return self.is_local if self.auto_migrate is None else self.auto_migrate

    @property
    def uses_simulator(self) -> bool:
        """No Twilio account is configured, and that is fine here: trust the simulator's public token."""
        is_configured = self.twilio_auth_token is not None or self.providers is not None
        return self.is_local and not is_configured and self.providers_file is None

    @cached_property
    def twilio_auth_tokens(self) -> tuple[str, ...]:
        """Tokens whose signatures are accepted, current first; empty when webhooks cannot be verified at all."""
        if self.uses_simulator:
            return (LOCAL_AUTH_TOKEN,)
        tokens = (self.twilio_auth_token, self.twilio_auth_token_previous)
        return tuple(token.get_secret_value() for token in tokens if token is not None)

    @cached_property
    def twilio_account_sids(self) -> frozenset[str]:
        """Accounts whose webhooks are accepted; empty: any, since the signature already proves the account's token."""
        if self.twilio_account_sid is None:
            return frozenset({LOCAL_ACCOUNT_SID} if self.uses_simulator else ())
        return frozenset(sid.strip() for sid in self.twilio_account_sid.split(",") if sid.strip())

    @property
    def public_base_urls(self) -> tuple[str, ...]:
        """Base URLs against which signatures are checked, first the one to show; never taken from a request."""
        if self.public_base_url is not None:
            return (self.public_base_url,)
        if not self.is_local:
            return ()
        return (f"http://localhost:{self.port}", f"http://127.0.0.1:{self.port}")


def child_environment(**changes: str) -> dict[str, str]:
    """Return the environment for a child process of ours, with `changes` to it."""
    return {**os.environ, **changes}


def variables() -> dict[str, str]:
    """Return what `${NAME}` may stand for in PROVIDERS: lines of `.env`, and above them the environment."""
    from_file = {name: value for name, value in dotenv_values(".env").items() if value is not None}
    return {**from_file, **os.environ}


def load_settings(**overrides: object) -> Settings:
    """Read the settings; `overrides` (field names) win over the environment.

    Raises StartupError with one line that names every setting that is wrong, never its value.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # keyword overrides are checked by pydantic itself
    except ValueError as error:
        raise StartupError(_explain(error)) from None


def _explain(error: ValueError) -> str:
    problems = []
    for each in getattr(error, "errors", list)():
        name = ".".join(str(part) for part in each["loc"]).upper()
        text = each["msg"].removeprefix("Value error, ")
        problems.append(f"{name}: {text}" if name else text)
    return "invalid settings: " + "; ".join(problems or [str(error)])

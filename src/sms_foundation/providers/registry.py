"""The providers there are, and how the setting PROVIDERS becomes the ones that are configured.

PROVIDERS is a JSON list, one object per account: `[{"kind": "twilio", "name": "twilio", "account_sid": "AC...",
"auth_token": "${TWILIO_AUTH_TOKEN}", "senders": ["+15005550006"]}]`. The fields are those of the adapters' `...Config`.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Final

import orjson
from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from sms_foundation.core.http import HttpClient, create_http_client
from sms_foundation.core.tracing.tracer import Tracer
from sms_foundation.providers.base import Provider
from sms_foundation.providers.generic.adapter import GenericConfig, GenericProvider
from sms_foundation.providers.messagebird.adapter import MessageBirdConfig, MessageBirdProvider
from sms_foundation.providers.simulated.adapter import SIMULATED
from sms_foundation.providers.telnyx.adapter import TelnyxConfig, TelnyxProvider
from sms_foundation.providers.twilio.adapter import TwilioConfig, TwilioProvider
from sms_foundation.providers.vonage.adapter import VonageConfig, VonageProvider

AnyProviderConfig = Annotated[
    TwilioConfig | MessageBirdConfig | VonageConfig | TelnyxConfig | GenericConfig, Field(discriminator="kind")
]

_PROVIDERS: Final[Mapping[str, Callable[..., Provider]]] = {
    "twilio": TwilioProvider,
    "messagebird": MessageBirdProvider,
    "vonage": VonageProvider,
    "telnyx": TelnyxProvider,
    "http": GenericProvider,
}
_ONE_CONFIG: Final = TypeAdapter[AnyProviderConfig](AnyProviderConfig)
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
# A page of 200 messages, each 1600 characters of six bytes, and some.
_LARGEST_RESPONSE_BYTES: Final = 4 * 1024 * 1024


def parse_provider_configs(text: str, *, variables: Mapping[str, str]) -> tuple[AnyProviderConfig, ...]:
    """Return the configured providers in their order; none for a blank text.

    `${NAME}` in a string stands for `variables["NAME"]`, so that secrets need not stand in the list.

    Raises ValueError: one line that names every problem and where it is, never a value.
    """
    if not text.strip():
        return ()
    try:
        entries = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise ValueError("must be a JSON list of objects")
    problems: list[str] = []
    configs: list[AnyProviderConfig] = []
    for index, entry in enumerate(entries):
        try:
            configs.append(_parse_one(entry, variables))
        except _ConfigError as error:
            problems += (f"{_label(index, entry)}: {problem}" for problem in error.problems)
    problems += _repeated_names(entries)
    if any(config.name == SIMULATED for config in configs):
        problems.append(f"{SIMULATED} is not a name to give: test messages go there")
    if problems:
        raise ValueError("; ".join(problems))
    return tuple(configs)


def open_connections(config: AnyProviderConfig, *, tracer: Tracer | None = None) -> HttpClient:
    """Make the pool of connections to one provider; needs a running event loop, and whoever makes it closes it."""
    return create_http_client(
        connect_timeout_s=config.connect_timeout_s,
        pool_timeout_s=config.connect_timeout_s,
        read_timeout_s=config.read_timeout_s,
        max_connections=config.max_connections,
        max_response_bytes=_LARGEST_RESPONSE_BYTES,
        tracer=tracer,
    )


def open_provider(config: AnyProviderConfig, http: HttpClient, *, base_urls: Sequence[str]) -> Provider:
    """Open a configured provider on connections of its own, which it closes; whoever opens it closes it.

    `base_urls` are our public ones: the first is where the provider reports to, in signatures all are accepted.
    """
    return _PROVIDERS[config.kind](config, http, base_urls=base_urls)


class _ConfigError(Exception):
    def __init__(self, problems: Iterable[str]) -> None:
        super().__init__()
        self.problems = list(problems)


def _parse_one(entry: dict[str, object], variables: Mapping[str, str]) -> AnyProviderConfig:
    missing: list[str] = []
    filled = _fill_in(entry, variables, missing)
    if missing:
        raise _ConfigError(f"{name} is not set" for name in dict.fromkeys(missing))
    try:
        return _ONE_CONFIG.validate_python(filled)
    except ValidationError as error:
        raise _ConfigError(map(_explain, error.errors(include_input=False, include_url=False))) from None


def _fill_in(value: object, variables: Mapping[str, str], missing: list[str]) -> object:
    """Return `value` with its variables replaced, in depth; the names of those that are not set go to `missing`.

    What is filled in is not looked through again: a password may hold `${`.
    """

    def replacement(match: re.Match[str]) -> str:
        if match[1] not in variables:
            missing.append(match[1])
        return variables.get(match[1], "")

    if isinstance(value, str):
        return _VARIABLE.sub(replacement, value)
    if isinstance(value, list):
        return [_fill_in(each, variables, missing) for each in value]
    if isinstance(value, dict):
        return {name: _fill_in(each, variables, missing) for name, each in value.items()}
    return value


def _explain(error: ErrorDetails) -> str:
    if error["type"].startswith("union_tag"):
        return f"kind: must be one of {', '.join(_PROVIDERS)}"
    location = error["loc"]
    if location and location[0] in _PROVIDERS:
        location = location[1:]  # the kind, which the discriminator puts in front of every field
    fields = ".".join(map(str, location))
    text = error["msg"].removeprefix("Value error, ")
    return f"{fields}: {text}" if fields else text


def _label(index: int, entry: dict[str, object]) -> str:
    name = entry.get("name")
    return f"[{index}] {name}" if isinstance(name, str) and _is_name(name) else f"[{index}]"


def _is_name(text: str) -> bool:
    """Whatever else stands there is not shown: it may be a secret in the wrong place."""
    return re.fullmatch("[a-z][a-z0-9-]{0,31}", text) is not None


def _repeated_names(entries: list[dict[str, object]]) -> list[str]:
    names = Counter(name for entry in entries if isinstance(name := entry.get("name"), str) and _is_name(name))
    return [f"{number} have the name {name}" for name, number in names.items() if number > 1]

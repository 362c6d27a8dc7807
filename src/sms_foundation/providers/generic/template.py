"""Texts with placeholders: values are put in, once, and never looked through or evaluated.

{to} {from}   as they are, mostly E.164      {to_digits} {from_digits}   the same without "+"
{body}        the text                       {reference}                 ours, new for every attempt
{status_url}  where we hear what became of it
"""

import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote

from sms_foundation.providers.base import OutboundSms
from sms_foundation.providers.errors import ErrorKind, ProviderError
from sms_foundation.providers.webhook_fields import without_plus

MESSAGE_PLACEHOLDERS: Final = frozenset("to from to_digits from_digits body reference status_url".split())
_PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")


def message_values(sms: OutboundSms, *, status_url: str) -> dict[str, str]:
    """Return what each of MESSAGE_PLACEHOLDERS stands for."""
    return {
        "to": sms.recipient,
        "from": sms.sender,
        "to_digits": without_plus(sms.recipient),
        "from_digits": without_plus(sms.sender),
        "body": sms.body,
        "reference": sms.reference,
        "status_url": status_url,
    }


def fill_text(template: str, values: Mapping[str, str]) -> str:
    """Return `template` with its placeholders replaced by the values as they are."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def fill_url(template: str, values: Mapping[str, str]) -> str:
    """Return a URL in which every value is percent-encoded, so that none can end a parameter or a path.

    Raises ProviderError (INVALID_REQUEST) for a text that UTF-8 cannot hold.
    """
    try:
        return _PLACEHOLDER.sub(lambda match: quote(values[match[1]], safe=""), template)
    except UnicodeEncodeError:
        raise ProviderError(ErrorKind.INVALID_REQUEST, provider_text="the text is not valid Unicode") from None


def fill_json(template: object, values: Mapping[str, str]) -> object:
    """Return a JSON value whose strings, at any depth, have their placeholders replaced; names stay as they are.

    It is still to be encoded, which is what escapes the values.
    """
    return _map_strings(template, lambda text: fill_text(text, values))


def check_placeholders(template: object, allowed: frozenset[str]) -> None:
    """Raise ValueError when a string in `template` (text or JSON value) names a placeholder that there is not."""
    unknown: list[str] = []

    def collect(text: str) -> str:
        unknown.extend(name for name in _PLACEHOLDER.findall(text) if name not in allowed)
        return text

    _map_strings(template, collect)
    if unknown:
        raise ValueError(f"unknown placeholder {{{unknown[0]}}}; there are {', '.join(sorted(allowed))}")


def _map_strings(value: object, change: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _map_strings(each, change) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_map_strings(each, change) for each in value]
    return value

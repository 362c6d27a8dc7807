"""What the words mean that events keep: each provider's own, by its dialect."""

from collections.abc import Mapping

from sms_foundation.providers.base import MessageStatus, parse_status
from sms_foundation.providers.generic.adapter import GenericConfig
from sms_foundation.providers.messagebird.webhook import STATUSES as MESSAGEBIRD
from sms_foundation.providers.registry import AnyProviderConfig
from sms_foundation.providers.telnyx.webhook import STATUSES as TELNYX
from sms_foundation.providers.vonage.webhook import STATUSES as VONAGE

_BY_KIND: Mapping[str, Mapping[str, MessageStatus]] = {"messagebird": MESSAGEBIRD, "telnyx": TELNYX, "vonage": VONAGE}
_OURS = {status.value: status for status in MessageStatus if parse_status(status.value) is not None}


def status_words(config: AnyProviderConfig) -> Mapping[str, MessageStatus]:
    """Return what the words of a provider's reports mean; others change nothing."""
    if isinstance(config, GenericConfig):
        return config.status.statuses
    return _BY_KIND.get(config.kind, _OURS)


def our_words() -> Mapping[str, MessageStatus]:
    """Return the words of a provider that speaks ours, such as the simulated one."""
    return _OURS

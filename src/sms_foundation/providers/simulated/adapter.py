"""A provider within this process: it takes every message and says at once what became of it.

What becomes of one is decided by its recipient (`numbers`) and, where it fails for a while, by how often it was tried;
nothing is remembered. So asked about a message it answers the same at any time, also about one whose sender died before
calling it.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Final

from sms_foundation.providers.base import (
    InboundSms,
    OutboundSms,
    SendReceipt,
    SentQuery,
    StatusReport,
    WebhookReply,
    WebhookRequest,
    WebhookShape,
)
from sms_foundation.providers.errors import ErrorKind, NotAuthenticError, ProviderError
from sms_foundation.providers.simulated.numbers import Fate, fate_of

SIMULATED: Final = "simulated"
"""Its name, which no configured provider can have."""
SIMULATED_SENDER: Final = "+15005550006"
"""The number that texts are from which ask for none; at Twilio, too, the one that works with test credentials."""

_NOTHING: Final[tuple[InboundSms, ...]] = ()
_ID_PREFIX: Final = "SIM"


class SimulatedProvider:
    """Sends nothing and delivers everything, but to the numbers of `numbers`."""

    kind: Final = SIMULATED
    name: Final = SIMULATED
    can_look_up: Final = True
    can_redact: Final = True
    webhook_shape: Final = WebhookShape(frozenset(), frozenset(), WebhookReply("text/plain; charset=utf-8", b""))

    async def send(self, sms: OutboundSms) -> SendReceipt:
        """See Provider."""
        fate = fate_of(sms.recipient)
        if fate.fails(_attempt_of(sms.reference)):
            assert fate.kind is not None  # noqa: S101  # only those with a kind fail
            raise ProviderError(fate.kind, provider_code=fate.code, provider_text=fate.text)
        return _receipt(sms.reference, fate)

    async def find_sent(self, query: SentQuery) -> Sequence[SendReceipt]:
        """See Provider. It has every message that it would have taken, and those it gave no answer about."""
        fate = fate_of(query.recipient)
        is_absent = fate.kind is not ErrorKind.UNKNOWN_OUTCOME and fate.fails(_attempt_of(query.reference))
        return () if is_absent else (_receipt(query.reference, fate),)

    async def fetch_status(self, provider_message_id: str) -> StatusReport | None:  # noqa: ARG002
        """See Provider. It has said everything when it took the message."""
        return None

    async def list_inbound(self, since: datetime, until: datetime) -> AsyncIterator[InboundSms]:  # noqa: ARG002
        """See Provider. Nobody texts it."""
        for sms in _NOTHING:
            yield sms

    async def redact(self, provider_message_id: str) -> bool:  # noqa: ARG002
        """See Provider. It keeps nothing."""
        return True

    def read_inbound(self, request: WebhookRequest) -> InboundSms:  # noqa: ARG002
        """See Provider."""
        raise NotAuthenticError("no_webhooks")

    def read_status(self, request: WebhookRequest) -> StatusReport:  # noqa: ARG002
        """See Provider."""
        raise NotAuthenticError("no_webhooks")

    async def aclose(self) -> None:
        """See Provider."""


def _attempt_of(reference: str) -> int:
    """Return which attempt at its message this is, from 1: a reference ends in that."""
    number = reference.rpartition(".")[2]
    return int(number) if number.isdecimal() else 1


def _receipt(reference: str, fate: Fate) -> SendReceipt:
    has_failed = fate.kind is None and fate.code is not None
    return SendReceipt(
        provider_message_id=_ID_PREFIX + reference.replace(".", ""),
        event_status=fate.status.value,
        status=fate.status,
        error_code=fate.code if has_failed else None,
        error_message=fate.text if has_failed else None,
        raw='{"simulated": true}',
    )

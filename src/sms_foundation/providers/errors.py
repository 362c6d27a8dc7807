"""What can go wrong between us and a provider: a closed set of kinds, and one table of what each of them means.

ProviderError         a call that did not do what it was asked for; the only exception an adapter's calls raise
NotAuthenticError     a webhook that is not the provider's, or not ours
WebhookParseError     a genuine webhook that lacks what it must have
"""

from dataclasses import dataclass
from enum import StrEnum


class ErrorKind(StrEnum):
    """Why a send did not succeed, whichever provider says so. Adapters translate their codes into these."""

    INVALID_REQUEST = "invalid_request"
    INVALID_RECIPIENT = "invalid_recipient"
    INVALID_SENDER = "invalid_sender"
    CONTENT_REJECTED = "content_rejected"
    OPTED_OUT = "opted_out"
    ACCOUNT = "account"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    UNKNOWN_OUTCOME = "unknown_outcome"


class Remedy(StrEnum):
    """What is to be done about an error."""

    GIVE_UP = "give_up"  # the message can never go out as it is
    SEND_AGAIN = "send_again"  # nothing was sent for certain: later, or through another provider
    LOOK_UP = "look_up"  # it may have been sent: ask before anything is sent again


@dataclass(frozen=True, slots=True)
class KindFacts:
    """What a kind of error means.

    `is_our_fault`: we or our configuration have to change, not the recipient or the provider. `blames_provider`: counts
    against the provider's health. `opens_circuit`: every further call would fail the same way. `explanation` is what
    a caller sees.
    """

    remedy: Remedy
    is_our_fault: bool
    blames_provider: bool
    explanation: str
    opens_circuit: bool = False


FACTS: dict[ErrorKind, KindFacts] = {
    ErrorKind.INVALID_REQUEST: KindFacts(Remedy.GIVE_UP, True, False, "the provider does not accept this message"),
    ErrorKind.INVALID_RECIPIENT: KindFacts(Remedy.GIVE_UP, False, False, "this number cannot receive text messages"),
    ErrorKind.INVALID_SENDER: KindFacts(Remedy.GIVE_UP, True, False, "the sender cannot be used for this recipient"),
    ErrorKind.CONTENT_REJECTED: KindFacts(Remedy.GIVE_UP, True, False, "the content was refused as spam or forbidden"),
    ErrorKind.OPTED_OUT: KindFacts(Remedy.GIVE_UP, False, False, "the recipient has asked for no more messages"),
    ErrorKind.ACCOUNT: KindFacts(
        Remedy.SEND_AGAIN, True, True, "the account at the provider cannot send", opens_circuit=True
    ),
    ErrorKind.RATE_LIMITED: KindFacts(Remedy.SEND_AGAIN, False, True, "the provider asked us to slow down"),
    ErrorKind.UNAVAILABLE: KindFacts(Remedy.SEND_AGAIN, False, True, "the provider did not take the message"),
    ErrorKind.UNKNOWN_OUTCOME: KindFacts(Remedy.LOOK_UP, False, True, "whether the provider took it is not known"),
}


class ProviderError(Exception):
    """A provider's refusal, or its silence.

    `provider_code` is the provider's own code, `status_code` the HTTP status if one came. `provider_text` may quote the
    message or a number: it is stored with the attempt and never logged. `retry_after_s` is what the provider asked for.
    """

    def __init__(
        self,
        kind: ErrorKind,
        *,
        provider_code: str | None = None,
        provider_text: str | None = None,
        status_code: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{kind} ({provider_code or status_code or 'no code'})")
        self.kind = kind
        self.provider_code = provider_code
        self.provider_text = provider_text
        self.status_code = status_code
        self.retry_after_s = retry_after_s

    @property
    def facts(self) -> KindFacts:
        return FACTS[self.kind]


class NotAuthenticError(Exception):
    """The webhook is refused; `reason` is a bounded label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class WebhookParseError(Exception):
    """The webhook is genuine but lacks what it must have; `reason` is a bounded label, the text is safe to show."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

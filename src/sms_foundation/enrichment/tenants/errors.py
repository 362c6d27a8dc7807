"""How a call to one of the tenant services ends badly. None of these reaches HTTP: background work acts on them.

TenantServiceError
├── AttemptFailedError         one request failed; `retry.repeat_while_useful` decides whether to try again
├── MonitorUnavailableError    no answer from the Collections Monitor now: look up again later
├── ProfileUnavailableError    the language was not stored now: put it again later
└── ProfileRejectedError       the language was refused for good: do not put it again
"""

from enum import StrEnum


class Failure(StrEnum):
    """Why a tenant service gave no usable answer; a closed set, fit for a metric label."""

    NOT_SENT = "not_sent"  # no connection
    NO_RESPONSE = "no_response"  # timeout, hang-up, not HTTP
    SERVER_ERROR = "server_error"
    RATE_LIMITED = "rate_limited"
    REDIRECTED = "redirected"
    CREDENTIALS_REFUSED = "credentials_refused"
    UNEXPECTED_ANSWER = "unexpected_answer"
    CIRCUIT_OPEN = "circuit_open"  # nobody was asked: too many lookups failed just now


class TenantServiceError(Exception):
    """Base; the text is the reason alone, without number, URL or body."""

    def __init__(self, reason: Failure, *, retry_after_s: float | None = None) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.retry_after_s = retry_after_s
        """Seconds to wait before trying again; None: as the caller sees fit."""


class AttemptFailedError(TenantServiceError):
    """One request brought no usable answer. `detail` is a status or a transport error, safe to log."""

    def __init__(self, reason: Failure, *, detail: int | str, retry_after_s: float | None = None) -> None:
        super().__init__(reason, retry_after_s=retry_after_s)
        self.detail = detail

    @property
    def is_worth_repeating(self) -> bool:
        """False where the next second cannot change anything: somebody must set a key first."""
        return self.reason is not Failure.CREDENTIALS_REFUSED


class MonitorUnavailableError(TenantServiceError):
    """The Collections Monitor could not be asked; whether it knows the number is open."""


class ProfileUnavailableError(TenantServiceError):
    """The tenant profile service could not be told; repeating it does no harm."""


class ProfileRejectedError(Exception):
    """The tenant profile service refuses this tenant or language; `status` is its 4xx."""

    def __init__(self, status: int) -> None:
        super().__init__(f"refused with status {status}")
        self.status = status

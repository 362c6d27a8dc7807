"""One outside service: its address and key, and what its status codes mean."""

from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

import structlog

from sms_foundation.core import clock
from sms_foundation.core.http import HttpCallError, HttpClient, HttpResponse, RequestNotSentError
from sms_foundation.enrichment.tenants import metrics
from sms_foundation.enrichment.tenants.errors import AttemptFailedError, Failure

log = structlog.get_logger(__name__)

_LONGEST_RETRY_AFTER_S: Final = 3600.0  # a service that asks for more has set its clock or its header wrong
_CREDENTIALS_RETRY_AFTER_S: Final = 60.0  # a person has to change a setting


class ServiceName(StrEnum):
    """The services this package talks to."""

    MONITOR = "monitor"
    PROFILE = "profile"


class RemoteService:
    """Sends one request at a time and tells failures from answers."""

    def __init__(self, http: HttpClient, *, name: ServiceName, base_url: str, api_key: str | None) -> None:
        self._http = http
        self._name = name
        self._base_url = base_url.rstrip("/")
        self._headers = {"Accept": "application/json"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._are_credentials_refused = False

    async def request(self, method: str, path_and_query: str, *, json: bytes | None = None) -> HttpResponse:
        """Return a response that answers the question: 2xx, or a 4xx that is about what was asked.

        Raises AttemptFailedError for everything else: no connection, no response, 1xx and 3xx, 401, 403, 408, 425,
        429, 5xx.
        """
        headers = self._headers if json is None else {**self._headers, "Content-Type": "application/json"}
        try:
            response = await self._http.request(method, self._base_url + path_and_query, headers=headers, body=json)
        except HttpCallError as error:
            reason = Failure.NOT_SENT if isinstance(error, RequestNotSentError) else Failure.NO_RESPONSE
            raise self.failed(reason, detail=error.reason.value) from None
        failure = _failure_of(response.status)
        if failure is None:
            self._are_credentials_refused = False
            return response
        if failure is Failure.CREDENTIALS_REFUSED:
            self._complain_once_about_credentials(response.status)
            raise self.failed(failure, detail=response.status, retry_after_s=_CREDENTIALS_RETRY_AFTER_S)
        retry_after_s = parse_retry_after(response.headers.get("Retry-After"), now=clock.utc_now())
        raise self.failed(failure, detail=response.status, retry_after_s=retry_after_s)

    def failed(self, reason: Failure, *, detail: int | str, retry_after_s: float | None = None) -> AttemptFailedError:
        """Count a request that brought no usable answer and return the error to raise."""
        metrics.FAILED_REQUESTS.labels(service=self._name, reason=reason).inc()
        return AttemptFailedError(reason, detail=detail, retry_after_s=retry_after_s)

    def _complain_once_about_credentials(self, status: int) -> None:
        if not self._are_credentials_refused:
            self._are_credentials_refused = True
            log.error("tenants.service.credentials_refused", service=self._name, status=status)


def parse_retry_after(value: str | None, *, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks to wait, between 0 and an hour; None if it says nothing.

    Source: RFC 9110 section 10.2.3 (seconds, or a date).
    """
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return min(float(value), _LONGEST_RETRY_AFTER_S)
    try:
        seconds = (parsedate_to_datetime(value) - now).total_seconds()
    except (TypeError, ValueError, OverflowError):  # no date, or one without a zone
        return None
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S)


def _failure_of(status: int) -> Failure | None:
    if status in (401, 403):
        return Failure.CREDENTIALS_REFUSED
    if status in (425, 429):
        return Failure.RATE_LIMITED
    if status >= 500 or status == 408:
        return Failure.SERVER_ERROR
    if status < 200:
        return Failure.UNEXPECTED_ANSWER
    return Failure.REDIRECTED if 300 <= status < 400 else None

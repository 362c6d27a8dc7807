"""The errors a caller can act on, and the shape in which they leave.

    SmsFoundationError            500 sms.internal_error
    ├── ValidationError           400 sms.validation_error      what the caller's data means is wrong
    ├── MalformedRequestError     422 sms.malformed_request     the request cannot be read at all
    ├── UnauthorizedError         401 sms.unauthorized
    ├── ForbiddenError            403 sms.forbidden
    ├── NotFoundError             404 sms.not_found
    ├── MethodNotAllowedError     405 sms.method_not_allowed
    ├── ConflictError             409 sms.conflict              not in the state this needs
    │   └── RequestRunningError   409 sms.request_running       the same request, a moment earlier, has no answer yet
    ├── IdempotencyError          422 sms.idempotency_conflict  the key stands for another request
    ├── PayloadTooLargeError      413 sms.payload_too_large
    ├── UnsupportedMediaError     415 sms.unsupported_media_type
    └── UnavailableError          503 sms.unavailable           try again later
        └── NotConfiguredError    503 sms.not_configured        an operator must set something first

`core.web.errors` turns any of them into the public envelope; anything else becomes a 500 without details.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self


class SmsFoundationError(Exception):
    """Base of all errors that reach a caller; `message` is safe to show, `details` are JSON values."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "sms.internal_error"
    log_level: ClassVar[int] = logging.WARNING

    def __init__(
        self, message: str, *, details: Mapping[str, object] | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.retry_after_s = retry_after_s


class ValidationError(SmsFoundationError):
    status = 400
    code = "sms.validation_error"
    log_level = logging.INFO

    @classmethod
    def of_field(cls, field: str, message: str) -> Self:
        """Name one wrong field, in the form in which all wrong fields are named."""
        return cls.of_fields([(field, message)])

    @classmethod
    def of_fields(cls, problems: Sequence[tuple[str, str]]) -> Self:
        """Name every wrong field with what is wrong about it."""
        return cls(
            "; ".join(f"{field}: {message}" for field, message in problems),
            details={"fields": [{"field": field, "message": message} for field, message in problems]},
        )


class MalformedRequestError(SmsFoundationError):
    status = 422
    code = "sms.malformed_request"
    log_level = logging.INFO


class UnauthorizedError(SmsFoundationError):
    status = 401
    code = "sms.unauthorized"


class ForbiddenError(SmsFoundationError):
    status = 403
    code = "sms.forbidden"


class NotFoundError(SmsFoundationError):
    status = 404
    code = "sms.not_found"
    log_level = logging.INFO


class MethodNotAllowedError(SmsFoundationError):
    status = 405
    code = "sms.method_not_allowed"
    log_level = logging.INFO

    def __init__(self, message: str, *, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


class ConflictError(SmsFoundationError):
    status = 409
    code = "sms.conflict"
    log_level = logging.INFO


class RequestRunningError(ConflictError):
    code = "sms.request_running"


class IdempotencyError(SmsFoundationError):
    status = 422
    code = "sms.idempotency_conflict"
    log_level = logging.INFO


class PayloadTooLargeError(SmsFoundationError):
    status = 413
    code = "sms.payload_too_large"


class UnsupportedMediaError(SmsFoundationError):
    status = 415
    code = "sms.unsupported_media_type"


class UnavailableError(SmsFoundationError):
    status = 503
    code = "sms.unavailable"
    log_level = logging.ERROR


class NotConfiguredError(UnavailableError):
    code = "sms.not_configured"


class StartupError(Exception):
    """The process cannot start as it is configured; the message is one line that says what to change."""

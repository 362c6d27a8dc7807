"""What can stand against sending a message, as its caller sees it.

ConflictError (409)
└── UnknownOutcomeError     409 sms.unknown_outcome        it may have been sent: nobody guesses
ForbiddenError (403)
└── NumberNotAllowedError   403 sms.number_not_allowed     the rules for numbers say so
SmsFoundationError
├── RefusedError            400 sms.refused                for good; `details.category` says why
└── ExternalFailedError     502 sms.external_failed        no provider took it, however often it was tried
"""

import logging

from sms_foundation.core.errors import ConflictError, ForbiddenError, SmsFoundationError


class UnknownOutcomeError(ConflictError):
    code = "sms.unknown_outcome"


class NumberNotAllowedError(ForbiddenError):
    code = "sms.number_not_allowed"
    log_level = logging.INFO


class RefusedError(SmsFoundationError):
    status = 400
    code = "sms.refused"
    log_level = logging.INFO


class ExternalFailedError(SmsFoundationError):
    status = 502
    code = "sms.external_failed"

"""What the simulator refuses, beyond the errors of `core.errors`.

    SmsFoundationError
    ├── ConflictError             409 simulator.conflict
    └── UnsupportedLanguageError  422 monitor.unsupported_language

`core.web.errors` turns them into the envelope.
"""

import logging

from sms_foundation.core.errors import SmsFoundationError


class ConflictError(SmsFoundationError):
    """What is asked contradicts what is already there."""

    status = 409
    code = "simulator.conflict"
    log_level = logging.INFO


class UnsupportedLanguageError(SmsFoundationError):
    """The profile service keeps English, Spanish and Portuguese only."""

    status = 422
    code = "monitor.unsupported_language"
    log_level = logging.INFO

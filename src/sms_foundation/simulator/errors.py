"""What the control API refuses, beyond the errors of `core.errors`.

SmsFoundationError
└── ConflictError             409 simulator.conflict
"""

import logging

from sms_foundation.core.errors import SmsFoundationError


class ConflictError(SmsFoundationError):
    """What is asked contradicts what is already there."""

    status = 409
    code = "simulator.conflict"
    log_level = logging.INFO

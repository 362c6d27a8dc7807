"""Answering wrong credentials: the same 401 for every reason, which metrics and logs have."""

from typing import NoReturn

import structlog

from sms_foundation.auth.limits.failures import FailureLimit
from sms_foundation.auth.metrics import AUTH_FAILURES
from sms_foundation.auth.refusals import Reason
from sms_foundation.core.errors import UnauthorizedError

log = structlog.get_logger(__name__)


async def refuse(failures: FailureLimit, reason: Reason, address: str) -> NoReturn:
    """Count wrong credentials from `address`. Raises UnauthorizedError; RateLimitedError where there were too many."""
    AUTH_FAILURES.labels(reason).inc()
    log.info("auth.refused", reason=reason)
    if reason is not Reason.MISSING:
        failures.check(address)
        await failures.count(address)
    raise UnauthorizedError("valid credentials are required")

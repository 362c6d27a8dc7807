"""The tracer of a process, if its settings ask for one."""

from importlib import import_module
from typing import cast

from sms_foundation.core.config import Settings
from sms_foundation.core.errors import StartupError
from sms_foundation.core.tracing.tracer import Tracer


def open_tracer(settings: Settings) -> Tracer | None:
    """Return the tracer, to be closed by whoever asked; None with TRACING off.

    Raises StartupError when OpenTelemetry is not installed.
    """
    if not settings.tracing:
        return None
    try:
        module = import_module("sms_foundation.core.tracing.open_telemetry")  # what it imports is an extra
    except ModuleNotFoundError:
        raise StartupError("TRACING=true needs OpenTelemetry: pip install 'sms-foundation[otel]'") from None
    return cast(Tracer, module.OpenTelemetry())

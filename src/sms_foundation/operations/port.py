"""The port of a process that does background work alone, where probes, Prometheus and people can ask."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sms_foundation.access_rules import RULES
from sms_foundation.auth.control import open_access_control
from sms_foundation.core.config import Settings
from sms_foundation.core.stopping import Stopping
from sms_foundation.core.web.server import serving
from sms_foundation.operations.router import operations_app
from sms_foundation.worker import Core, OpenPort

# Its answers are short: whoever asks at the end has had his within this part of SHUTDOWN_TIMEOUT_S.
_CLOSING_SHARE = 0.1


def operations_port(settings: Settings, listener: socket.socket) -> OpenPort:
    """Return what opens it on `listener`. Who may ask is decided as by the service: the same rules, keys and networks.

    When opened it raises StartupError for settings that make no sense.
    """

    @asynccontextmanager
    async def open_port(core: Core, stopping: Stopping) -> AsyncIterator[None]:
        async with open_access_control(settings, core.database, core.rates, RULES, core.saturation) as access:
            app = operations_app(settings, core, stopping, access.gate.check)
            async with serving(app, listener, stopping, closing_s=settings.shutdown_timeout_s * _CLOSING_SHARE):
                yield

    return open_port

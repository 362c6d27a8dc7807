"""Everything one running stand-in holds."""

from dataclasses import dataclass, field

from sms_foundation.simulator.monitor.faults import FaultSwitch
from sms_foundation.simulator.monitor.tenants import TenantDirectory, make_tenants


@dataclass(slots=True)
class Monitor:
    api_key: str | None = field(default=None, repr=False)
    """Bearer key asked for; None: nobody is asked."""
    directory: TenantDirectory = field(default_factory=lambda: TenantDirectory(make_tenants()))
    faults: FaultSwitch = field(default_factory=FaultSwitch)

"""What every check is given."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sms_foundation.core.config import Settings
from sms_foundation.core.ids import NIL, first_id_at
from sms_foundation.doctor.findings import Report
from sms_foundation.doctor.limits import Limits
from sms_foundation.doctor.reading import Reader
from sms_foundation.providers.registry import AnyProviderConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """`since`: how far back walks go, None: to the beginning. `report.looked_at` is the checks' to fill."""

    settings: Settings
    configs: tuple[AnyProviderConfig, ...]
    reader: Reader
    since: datetime | None
    limits: Limits
    report: Report

    @property
    def first_id(self) -> UUID:
        """The lowest id that a row of the period can have."""
        return NIL if self.since is None else first_id_at(self.since)

"""Counters of tenant lookups; every label value comes from an enum.

Share of known numbers: `matched / (matched + unknown)` of `sms_tenant_lookups_total`.
"""

from enum import StrEnum

from prometheus_client import Counter, Gauge, Histogram


class LookupOutcome(StrEnum):
    """How one question "whose number is this?" ended; every question has exactly one."""

    MATCHED = "matched"
    UNKNOWN = "unknown"
    UNAVAILABLE = "unavailable"
    CACHED = "cached"
    SHARED = "shared"  # joined a lookup of the same number that was under way
    CIRCUIT_OPEN = "circuit_open"
    NOT_CONFIGURED = "not_configured"


class ProfileOutcome(StrEnum):
    """How one attempt to store a language ended, retries included."""

    STORED = "stored"
    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"


LOOKUPS = Counter("sms_tenant_lookups", "Questions whose number it is, by outcome", ["outcome"])
LOOKUP_SECONDS = Histogram(
    "sms_tenant_lookup_seconds",
    "Time of a lookup at the Collections Monitor, all spellings and retries included",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20),
)
CIRCUIT_OPEN = Gauge("sms_tenant_circuit_open", "1 while lookups fail at once because the Collections Monitor is down")
FAILED_REQUESTS = Counter(
    "sms_tenant_service_failures", "Requests without a usable answer, by service and reason", ["service", "reason"]
)
PROFILE_UPDATES = Counter("sms_tenant_profile_updates", "Languages put to the tenant profile, by outcome", ["outcome"])

"""What became of the webhooks, by reason."""

from typing import Final

from prometheus_client import Counter

# outcome: stored, duplicate, applied, late, unmatched, or the reason of a refusal.
WEBHOOKS = Counter("sms_webhooks_total", "Provider webhooks by what became of them", ["provider", "kind", "outcome"])

WATCHED_OUTCOMES: Final = (
    *("stored", "invalid_signature", "unknown_account"),
    *("unavailable", "overloaded", "timeout", "failed", "internal_error"),
)
"""Those that alerts count. They exist, as 0, before the first: Prometheus does not see the beginning of a series."""

"""What became of the webhooks, by reason."""

from prometheus_client import Counter

# outcome: stored, duplicate, applied, late, unmatched, or the reason of a refusal.
WEBHOOKS = Counter("sms_webhooks_total", "Provider webhooks by what became of them", ["provider", "kind", "outcome"])

"""What enrichment tells Prometheus."""

from prometheus_client import Counter, Histogram

LANGUAGES = Counter("sms_language_detected_total", "Recognised texts", ["language"])
LANGUAGE_DECISIONS = Counter("sms_language_decisions_total", "Decisions on a conversation's language", ["reason"])
NUMBERS = Counter("sms_numbers_enriched_total", "Texts by whether their sender is a known tenant", ["outcome"])
ENRICHMENT_SECONDS = Histogram(
    "sms_enrichment_seconds",
    "Time from receipt of a text to its committed tenant and language",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300),
)

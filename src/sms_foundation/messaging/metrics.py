"""What storing messages and receipts tells Prometheus."""

from prometheus_client import Counter, Histogram

COMMIT_BATCH_SIZE = Histogram(
    "sms_commit_batch_size", "Webhooks committed together", ["kind"], buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
STORE_SECONDS = Histogram(
    "sms_store_seconds",
    "Time from receipt of a webhook to its commit",
    ["kind"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
MESSAGES_STORED = Counter("sms_messages_stored_total", "Inbound messages", ["provider", "outcome"])
RECEIPTS_STORED = Counter("sms_receipts_stored_total", "Status callbacks", ["provider", "outcome"])

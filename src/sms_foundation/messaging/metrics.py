"""What storing messages and receipts tells Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

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
MESSAGES_ACCEPTED = Counter("sms_messages_accepted_total", "Requests to send", ["priority", "outcome"])
MESSAGES_SENT = Counter("sms_messages_sent_total", "Calls to a provider, by what came of them", ["provider", "outcome"])
SEND_SECONDS = Histogram(
    "sms_send_seconds",
    "Time a provider took to answer a send",
    ["provider"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
ACCEPTED_TO_SENT_SECONDS = Histogram(
    "sms_accepted_to_sent_seconds",
    "Time from accepting a message (or its scheduled time) to the provider's answer",
    ["priority"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600),
)
MESSAGES_ENDED = Counter("sms_messages_ended_total", "Messages that will not be sent", ["reason"])
MESSAGES_WAITING = Counter("sms_messages_put_off_total", "Times a message could not go yet", ["reason"])
PROVIDER_STATE = Gauge("sms_provider_available", "1: takes part in routing", ["provider"])
PROVIDER_CHANGES = Counter("sms_provider_changes_total", "Changes of a provider's state", ["provider", "what", "new"])
REPAIRED = Counter("sms_repaired_total", "What reconciliation found missing; should stay 0", ["kind"])

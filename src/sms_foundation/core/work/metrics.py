"""What the work runner tells Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

WORK_RUNS = Counter("sms_work_runs_total", "Finished runs of background work", ["kind", "outcome"])
WORK_SECONDS = Histogram(
    "sms_work_seconds",
    "Time one run of background work took",
    ["kind"],
    buckets=(0.001, 0.005, 0.025, 0.1, 0.25, 1, 2.5, 10, 30),
)
WORK_BACKLOG = Gauge(
    "sms_work_backlog", "Rows of background work, over all processes; of very many, at least so many", ["kind", "state"]
)
WORK_OLDEST_DUE_SECONDS = Gauge("sms_work_oldest_due_seconds", "How long the oldest due row has been waiting", ["kind"])
WORK_BACKLOG_AGE_SECONDS = Gauge(
    "sms_work_backlog_age_seconds", "How old this process's view of the backlog is; after five minutes it shows none"
)
WORK_TAKEN_OVER = Counter("sms_work_taken_over_total", "Rows taken over from a process that died or hung")

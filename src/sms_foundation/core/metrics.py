"""What `core.db` tells Prometheus besides how full its pool is (`core.saturation`)."""

from prometheus_client import Histogram

DATABASE_WAIT_SECONDS = Histogram(
    "sms_database_wait_seconds",
    "Time callers waited for a connection to be given back or opened; those who got one at once are not in it",
    buckets=(0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)

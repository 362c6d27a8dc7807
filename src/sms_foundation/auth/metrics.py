"""Metrics of access control."""

from prometheus_client import Counter

AUTH_FAILURES = Counter("sms_auth_failures_total", "Credentials refused, and calls not allowed", ["reason"])
LIMITED = Counter("sms_rate_limited_total", "Requests refused by a limit", ["limit"])  # client, number, address, login
UNLIMITED = Counter(
    "sms_limits_not_asked_total", "Requests not counted against a limit: nobody could be asked", ["limit"]
)
AUTH_LOOKUPS = Counter("sms_auth_lookups_total", "Credentials looked up in the database", ["kind"])

"""Request metrics. Routes are templates and outcomes are status codes, so labels stay bounded."""

from prometheus_client import Counter, Gauge, Histogram

HTTP_REQUESTS = Counter("sms_http_requests_total", "Answered requests", ["route", "method", "status"])
HTTP_SECONDS = Histogram(
    "sms_http_request_seconds",
    "Time from request to the end of its answer",
    ["route"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 15),
)
IDEMPOTENT_REQUESTS = Counter(
    "sms_idempotent_requests_total",
    "Requests with an Idempotency-Key: fresh, replayed, conflict (another request's key), running (its twin is)",
    ["outcome"],
)
# reason: head_too_large; or, with _too_slow, what was waited for: request, head, body, end (of a body that was answered
# without it), reader (of an answer).
HTTP_CUT_OFF = Counter("sms_http_connections_cut_off_total", "Connections that cost more than they may", ["reason"])
HTTP_IN_FLIGHT = Gauge("sms_http_requests_in_flight", "Requests being answered")

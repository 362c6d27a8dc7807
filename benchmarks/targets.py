"""What the service should reach on two cores with PostgreSQL on the same machine. docs/benchmarks.md explains each."""

from benchmarks.report import Target

TARGETS = (
    Target("texts/s at 64 connections, of the bare route's", "inbound_64", "of_bare", 0.6, is_floor=True),
    Target("service CPU per stored text", "inbound_64", "service_cpu_us", 150, "µs"),
    Target("PostgreSQL CPU per stored text", "inbound_64", "postgres_cpu_us", 50, "µs"),
    Target("with 20 % duplicates, of plain", "inbound_dup20", "of_inbound_64", 0.8, is_floor=True),
    Target("with 100,000 numbers, of plain", "inbound_100k_numbers", "of_inbound_64", 0.8, is_floor=True),
    Target("all from one number, of plain", "inbound_one_number", "of_inbound_64", 0.8, is_floor=True),
    Target("with 1 ms to the database, of plain", "inbound_64_delay1ms", "of_inbound_64", 0.85, is_floor=True),
    Target("status callbacks/s, of texts/s", "status_64", "of_inbound_64", 1.0, is_floor=True),
    Target("answered but not stored", "inbound", "answered_not_stored", 0, "texts"),
    Target("p50 at 200/s", "inbound_rate200", "p50_ms", 3, "ms"),
    Target("p99 at 200/s", "inbound_rate200", "p99_ms", 10, "ms"),
    Target("p50 over one connection", "inbound_c1", "p50_ms", 2, "ms"),
    Target("first history page, 1 M messages", "history_first", "per_s", 3000, "/s", is_floor=True),
    Target("thousandth page by number", "history_page1000", "per_s", 3000, "/s", is_floor=True),
    Target("thousandth page by cursor", "history_cursor1000", "per_s", 3000, "/s", is_floor=True),
    Target("thousandth page by number, of the first", "history_page1000", "of_first", 0.8, is_floor=True),
    Target("thousandth page by cursor, of the first", "history_cursor1000", "of_first", 0.8, is_floor=True),
    Target("p99 to tenant and language, Monitor takes 20 ms", "enrichment_latency", "p99_ms", 250, "ms"),
    Target("enrichment CPU per text, service and PostgreSQL", "enrichment_cpu", "cpu_ms", 1, "ms"),
    Target("warm start, embedded database", "start_embedded", "ready_s", 3, "s"),
    Target("warm start, given database", "start_given", "ready_s", 1.5, "s"),
    Target("resident memory after the load", "memory", "after_load_mib", 150, "MiB"),
    Target("language detector ready", "language", "ready_s", 0.2, "s"),
    Target("language detector's memory", "language", "memory_added_mib", 50, "MiB"),
    Target("language detector's speed", "language", "per_s", 5000, "texts/s", is_floor=True),
)

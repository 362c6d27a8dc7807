"""How full the pools and queues of one process are, read at the moment Prometheus asks.

Each of them keeps the few numbers it needs anyway and says them as a `Use`; the composition root gives it a name here.
Nothing is counted on the way of a request for the sake of metrics, and what belongs to a process that was closed
vanishes with it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class Use:
    """What one pool or queue is at.

    Of a pool: `limit` is the most in use at a time, and those that `wait` have nothing yet. Of a queue: `limit` is the
    most that may wait, and what is in use was taken out and is not done. `errors` counts since the start, by reason;
    reasons come from code, never from outside.
    """

    limit: int
    in_use: int
    waiting: int
    errors: Mapping[str, int] = field(default_factory=dict)


Read = Callable[[], Use]


class Saturation(Collector):
    """The pools and queues of one process by name. Names are metric labels: of our own choice or from configuration."""

    def __init__(self) -> None:
        self._pools: dict[str, Read] = {}
        self._queues: dict[str, Read] = {}

    def watch_pool(self, name: str, read: Read) -> None:
        """Show a pool under `name`. Raises ValueError for a name that is taken."""
        _enter(self._pools, name, read)

    def watch_queues(self, reads: Mapping[str, Read]) -> None:
        """Show queues under these names. Raises ValueError for a name that is taken."""
        for name, read in reads.items():
            _enter(self._queues, name, read)

    def collect(self) -> Iterable[Metric]:
        """Return the families of pools and of queues, as `prometheus_client` asks for them."""
        pool_limit = GaugeMetricFamily("sms_pool_limit", "Most that can be in use at a time", labels=["pool"])
        pool_in_use = GaugeMetricFamily("sms_pool_in_use", "Connections, slots or calls in use", labels=["pool"])
        pool_waiting = GaugeMetricFamily("sms_pool_waiting", "Callers that wait for a free one", labels=["pool"])
        pool_errors = CounterMetricFamily(
            "sms_pool_errors_total", "Callers that got none, or lost the one they had", labels=["pool", "reason"]
        )
        _fill(self._pools, pool_limit, pool_in_use, pool_waiting, pool_errors)
        queue_limit = GaugeMetricFamily("sms_queue_limit", "Most that may wait in memory", labels=["queue"])
        queue_in_flight = GaugeMetricFamily("sms_queue_in_flight", "Taken out and being written", labels=["queue"])
        queue_waiting = GaugeMetricFamily("sms_queue_waiting", "Waiting in memory to be written", labels=["queue"])
        queue_errors = CounterMetricFamily(
            "sms_queue_errors_total", "full: refused; timeout, failed: writes that failed", labels=["queue", "reason"]
        )
        _fill(self._queues, queue_limit, queue_in_flight, queue_waiting, queue_errors)
        return (
            *(pool_limit, pool_in_use, pool_waiting, pool_errors),
            *(queue_limit, queue_in_flight, queue_waiting, queue_errors),
        )


def _enter(sources: dict[str, Read], name: str, read: Read) -> None:
    if name in sources:
        raise ValueError(f"{name} is watched already")
    sources[name] = read


def _fill(
    sources: Mapping[str, Read],
    limit: GaugeMetricFamily,
    in_use: GaugeMetricFamily,
    waiting: GaugeMetricFamily,
    errors: CounterMetricFamily,
) -> None:
    for name, read in sources.items():
        use = read()
        limit.add_metric([name], use.limit)
        in_use.add_metric([name], use.in_use)
        waiting.add_metric([name], use.waiting)
        for reason, count in use.errors.items():
            errors.add_metric([name, reason], count)

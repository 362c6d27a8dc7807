"""Metrics by the names of the older services, derived from ours when Prometheus asks: nothing is counted twice."""

from collections.abc import Callable, Iterable
from itertools import groupby

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from sms_foundation.core.work.metrics import WORK_OLDEST_DUE_SECONDS
from sms_foundation.messaging.metrics import MESSAGES_SENT, SEND_SECONDS


class OldNames(Collector):
    """`sms_sent_total`, `sms_failed_total`, `provider_latency_ms`, `otp_verifications_total` and `queue_lag`.

    A call to a provider is in one of the first two: `sms_failed_total / (sms_sent_total + sms_failed_total)` is a share
    of calls. A message that a second call brings out is in both; one that ends without a call is in neither, but in
    `sms_messages_ended_total`.
    """

    def collect(self) -> Iterable[Metric]:
        """Return the families, as `prometheus_client` asks for them."""
        return (
            _sent(),
            _failed(),
            _latency_ms(),
            CounterMetricFamily(
                "otp_verifications_total",
                "One-time passwords checked, by outcome; this version makes none",
                labels=["outcome"],
            ),
            _queue_lag(),
        )


def _sent() -> CounterMetricFamily:
    family = CounterMetricFamily("sms_sent_total", "Messages that a provider took", labels=["provider"])
    for labels, calls in _calls(lambda outcome: outcome == "sent"):
        family.add_metric([labels["provider"]], calls)
    return family


def _failed() -> CounterMetricFamily:
    family = CounterMetricFamily(
        "sms_failed_total",
        "Calls to a provider that did not get their message taken, by reason; the message may go out with another call",
        labels=["provider", "reason"],
    )
    for labels, calls in _calls(lambda outcome: outcome != "sent"):
        family.add_metric([labels["provider"], labels["outcome"]], calls)
    return family


def _latency_ms() -> HistogramMetricFamily:
    family = HistogramMetricFamily(
        "provider_latency_ms",
        "Milliseconds a provider took to answer a send that it took; sms_send_seconds in another unit",
        labels=["provider"],
    )
    for provider, samples in groupby(_samples(SEND_SECONDS), key=lambda sample: sample.labels["provider"]):
        buckets: list[tuple[str, float]] = []
        sum_ms = 0.0
        for sample in samples:
            if sample.name.endswith("_bucket"):
                buckets.append((_in_ms(sample.labels["le"]), sample.value))
            elif sample.name.endswith("_sum"):
                sum_ms = sample.value * 1000
        family.add_metric([provider], buckets, sum_ms)
    return family


def _queue_lag() -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "queue_lag",
        "Seconds that the oldest due row of background work has been waiting; sms_work_oldest_due_seconds",
        labels=["kind"],
    )
    for sample in _samples(WORK_OLDEST_DUE_SECONDS):
        family.add_metric([sample.labels["kind"]], sample.value)
    return family


def _calls(is_wanted: Callable[[str], bool]) -> Iterable[tuple[dict[str, str], float]]:
    for sample in _samples(MESSAGES_SENT):
        if sample.name.endswith("_total") and is_wanted(sample.labels["outcome"]):
            yield sample.labels, sample.value


def _samples(metric: Collector) -> Iterable[Sample]:
    return (sample for family in metric.collect() for sample in family.samples)


def _in_ms(seconds: str) -> str:
    return seconds if seconds == "+Inf" else str(float(seconds) * 1000)

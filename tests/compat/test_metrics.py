"""The names operators of the older services know say what ours say."""

from collections.abc import Iterator

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sms_foundation.compat.metrics import OldNames
from sms_foundation.core.work.metrics import WORK_OLDEST_DUE_SECONDS
from sms_foundation.messaging.metrics import MESSAGES_SENT, SEND_SECONDS
from tests.support.service import Service


@pytest.fixture(autouse=True)
def nothing_counted() -> Iterator[None]:
    """These metrics belong to the process: other tests have counted, too."""
    for metric in (MESSAGES_SENT, SEND_SECONDS, WORK_OLDEST_DUE_SECONDS):
        metric.clear()
    yield
    for metric in (MESSAGES_SENT, SEND_SECONDS, WORK_OLDEST_DUE_SECONDS):
        metric.clear()


def exported() -> list[str]:
    return [line for line in generate_latest(OldNames()).decode().splitlines() if not line.startswith("#")]


class TestOldNames:
    def test_calls_that_were_taken_are_sent_and_the_others_failed(self) -> None:
        for provider, outcome, calls in (
            ("a", "sent", 3),
            ("a", "account", 2),
            ("a", "opted_out", 1),
            ("b", "sent", 4),
        ):
            MESSAGES_SENT.labels(provider, outcome).inc(calls)

        assert exported() == [
            'sms_sent_total{provider="a"} 3.0',
            'sms_sent_total{provider="b"} 4.0',
            'sms_failed_total{provider="a",reason="account"} 2.0',
            'sms_failed_total{provider="a",reason="opted_out"} 1.0',
        ]

    def test_latency_is_the_same_histogram_in_milliseconds(self) -> None:
        for seconds in (0.02, 0.2, 0.2, 60):
            SEND_SECONDS.labels("a").observe(seconds)
        SEND_SECONDS.labels("b").observe(0.5)

        lines = exported()

        assert 'provider_latency_ms_bucket{le="10.0",provider="a"} 0.0' in lines
        assert 'provider_latency_ms_bucket{le="25.0",provider="a"} 1.0' in lines
        assert 'provider_latency_ms_bucket{le="250.0",provider="a"} 3.0' in lines
        assert 'provider_latency_ms_bucket{le="30000.0",provider="a"} 3.0' in lines
        assert 'provider_latency_ms_bucket{le="+Inf",provider="a"} 4.0' in lines
        assert 'provider_latency_ms_count{provider="a"} 4.0' in lines
        assert 'provider_latency_ms_sum{provider="a"} 60420.0' in lines
        assert 'provider_latency_ms_sum{provider="b"} 500.0' in lines

    def test_lag_is_the_age_of_the_oldest_due_row(self) -> None:
        WORK_OLDEST_DUE_SECONDS.labels("send_message").set(12.5)

        assert exported() == ['queue_lag{kind="send_message"} 12.5']

    def test_one_time_passwords_are_a_family_without_samples(self) -> None:
        [family] = [
            each
            for each in text_string_to_metric_families(generate_latest(OldNames()).decode())
            if each.name == "otp_verifications"
        ]

        assert (family.type, family.samples) == ("counter", [])
        assert family.documentation


class TestService:
    async def test_exports_all_of_them(self, service: Service) -> None:
        text = (await service.client.get("/metrics")).text

        for name, kind in (
            ("sms_sent_total", "counter"),
            ("sms_failed_total", "counter"),
            ("provider_latency_ms", "histogram"),
            ("otp_verifications_total", "counter"),
            ("queue_lag", "gauge"),
        ):
            assert f"# TYPE {name} {kind}\n" in text

    async def test_lag_is_that_of_this_moment(self, service: Service) -> None:
        await service.database.pool.execute(
            "INSERT INTO work (kind, ref_id, run_at) "
            "VALUES ('of_another_version', gen_random_uuid(), now() - interval '90 seconds')"
        )

        text = (await service.client.get("/metrics")).text

        [lag] = [line for line in text.splitlines() if line.startswith('queue_lag{kind="of_another_version"}')]
        assert 90 <= float(lag.split()[1]) < 120

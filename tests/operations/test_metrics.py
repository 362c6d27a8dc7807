"""What a whole process tells Prometheus about itself, from its first answer on."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sms_foundation.core.db import DatabaseUrl
from tests.infrastructure.files import OBSERVABILITY, read_yaml
from tests.support.processes import Processes, ServiceProcess
from tests.support.tcp_gate import TcpGate

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def samples(process: ServiceProcess) -> Samples:
    answer = await process.get("/metrics")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


async def ready(process: ServiceProcess) -> tuple[float, float]:
    """Whether it can answer callers, and whether it can work."""
    found = await samples(process)
    return found["sms_ready", frozenset({("role", "api")})], found["sms_ready", frozenset({("role", "work")})]


class TestReady:
    @pytest.mark.parametrize(
        ("settings", "expected"), [({"WORK_IN_PROCESS": "false"}, (1, 0)), ({"WORK_IN_PROCESS": "true"}, (1, 1))]
    )
    async def test_tells_whether_the_service_works_itself(
        self,
        processes: Processes,
        database_url: DatabaseUrl,
        settings: dict[str, str],
        expected: tuple[float, float],
    ) -> None:
        service = processes.serve(DATABASE_URL=database_url.dsn, **settings)
        await service.until_ready()

        assert await ready(service) == expected

    async def test_of_a_worker_is_its_work_alone(self, processes: Processes, database_url: DatabaseUrl) -> None:
        worker = processes.work(DATABASE_URL=database_url.dsn)
        await worker.until_ready()

        assert await ready(worker) == (0, 1)

    async def test_is_nothing_while_the_database_is_away(self, processes: Processes, gate: TcpGate) -> None:
        service = processes.serve(DATABASE_URL=gate.url)
        await service.until_status("/health/live", 200)

        assert await ready(service) == (0, 0)

        await gate.open()
        await service.until_ready()
        assert await ready(service) == (1, 1)


class TestWebhooks:
    async def test_outcomes_that_alerts_watch_are_there_before_the_first_of_them(
        self, processes: Processes, database_url: DatabaseUrl
    ) -> None:
        """`increase` does not see a series' first value: of a new process it would miss the beginning."""
        service = processes.serve(DATABASE_URL=database_url.dsn)
        await service.until_ready()

        found = {
            dict(labels)["outcome"]: value
            for (name, labels), value in (await samples(service)).items()
            if name == "sms_webhooks_total" and {("provider", "twilio"), ("kind", "sms")} <= labels
        }

        assert set(found.values()) == {0}
        for rule in [rule for group in read_yaml(OBSERVABILITY / "alerts.yaml")["groups"] for rule in group["rules"]]:
            for part in rule["expr"].split("sms_webhooks_total{")[1:]:
                selected = part.partition("outcome")[2].partition('"')[2].partition('"')[0]
                assert set(selected.split("|")) <= found.keys(), rule["alert"]

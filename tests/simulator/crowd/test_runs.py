import asyncio

import pytest
from starlette.responses import Response

from sms_foundation.core.errors import ValidationError
from sms_foundation.simulator.crowd.runs import CrowdPlan, CrowdRun, CrowdRuns, RunState
from sms_foundation.simulator.errors import ConflictError
from sms_foundation.simulator.state import Simulator, make_simulator
from tests.simulator.servers import FakeTime, Receiver, settings_for


def simulator_for(receiver: Receiver, fake_time: FakeTime) -> Simulator:
    return make_simulator(settings_for(receiver.base_url), fake_time.timing)


async def end_of(run: CrowdRun) -> CrowdRun:
    while run.state is RunState.RUNNING:  # noqa: ASYNC110  # figures are polled, as over HTTP
        await asyncio.sleep(0.005)
    return run


class TestCrowdRuns:
    async def test_every_text_arrives_signed_and_is_counted(self, receiver: Receiver, fake_time: FakeTime) -> None:
        simulator = simulator_for(receiver, fake_time)
        run = await end_of(simulator.crowds.start(CrowdPlan(count=60, rate_per_s=1000, seed=3)))
        await simulator.close()
        assert run.state is RunState.FINISHED
        assert (run.sent, run.delivered, run.failed) == (60, 60, 0)
        assert sum(run.by_language.values()) == 60
        assert run.by_status_code == {"200": 60}
        assert len({each.form["MessageSid"] for each in receiver.received}) == 60
        assert receiver.unsigned == 0

    async def test_failures_are_counted_by_code(self, receiver: Receiver, fake_time: FakeTime) -> None:
        receiver.answers.extend([Response(status_code=503)] * 4)
        simulator = simulator_for(receiver, fake_time)
        run = await end_of(simulator.crowds.start(CrowdPlan(count=10, rate_per_s=1000)))
        await simulator.close()
        assert (run.delivered, run.failed) == (6, 4)
        assert run.by_error_code == {"11200": 4}

    async def test_only_one_runs_at_a_time(self, receiver: Receiver, fake_time: FakeTime) -> None:
        simulator = simulator_for(receiver, fake_time)
        first = simulator.crowds.start(CrowdPlan(count=5, rate_per_s=1000))
        with pytest.raises(ConflictError):
            simulator.crowds.start(CrowdPlan(count=5, rate_per_s=1000))
        await end_of(first)
        await end_of(simulator.crowds.start(CrowdPlan(count=5, rate_per_s=1000)))
        await simulator.close()

    async def test_closing_stops_it(self, receiver: Receiver, fake_time: FakeTime) -> None:
        simulator = simulator_for(receiver, fake_time)
        run = simulator.crowds.start(CrowdPlan(count=100_000, rate_per_s=1000))
        await asyncio.sleep(0.02)
        await simulator.close()
        assert run.state is RunState.STOPPED
        assert run.finished_at is not None

    async def test_an_empty_mix_is_refused(self, receiver: Receiver, fake_time: FakeTime) -> None:
        simulator = simulator_for(receiver, fake_time)
        with pytest.raises(ValidationError):
            simulator.crowds.start(CrowdPlan(count=5, rate_per_s=1, mix={"en": 0}))
        await simulator.close()

    async def test_closing_without_a_run_is_harmless(self, receiver: Receiver, fake_time: FakeTime) -> None:
        simulator = simulator_for(receiver, fake_time)
        await CrowdRuns(simulator.account, simulator.timing).close()
        await simulator.close()

"""What probes are told about a process that does background work."""

import asyncio

import pytest

from sms_foundation.core.stopping import Stopping
from sms_foundation.operations.readiness import Readiness
from sms_foundation.worker import Core


@pytest.fixture
def stopping() -> Stopping:
    return Stopping()


@pytest.fixture
def readiness(core: Core, stopping: Stopping) -> Readiness:
    return Readiness(core, stopping, must_work=True)


async def end_a_loop(name: str) -> None:
    """Let one of the loops that run for ever end, as a mistake in it would."""
    (task, *_) = [each for each in asyncio.all_tasks() if each.get_name() == name]
    task.cancel()
    await asyncio.wait([task])


class TestNotReady:
    async def test_before_the_work_has_begun(self, readiness: Readiness) -> None:
        assert await readiness.not_ready() == "background work has not begun"

    async def test_not_so_once_it_has(self, readiness: Readiness, core: Core) -> None:
        core.start()

        assert await readiness.not_ready() is None

    async def test_a_service_that_leaves_work_to_others_is_ready_without(self, core: Core) -> None:
        assert await Readiness(core, Stopping(), must_work=False).not_ready() is None

    async def test_from_the_signal_on(self, readiness: Readiness, core: Core, stopping: Stopping) -> None:
        core.start()
        stopping.begin()

        assert await readiness.not_ready() == "stopping"


class TestNotAlive:
    async def test_never_while_the_work_goes_on_or_has_been_stopped(self, readiness: Readiness, core: Core) -> None:
        assert readiness.not_alive() is None
        core.start()
        assert readiness.not_alive() is None
        await core.stop(1.0)
        assert readiness.not_alive() is None

    @pytest.mark.parametrize("name", ["work-feeder-0", "work-feeder-1"])
    async def test_when_a_loop_of_the_work_has_ended_by_itself(
        self, readiness: Readiness, core: Core, name: str
    ) -> None:
        core.start()
        await end_a_loop(name)

        assert readiness.not_alive() == "background work has ended by itself"
        assert await readiness.not_ready() == "background work has ended by itself"

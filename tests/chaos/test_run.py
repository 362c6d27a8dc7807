"""`python -m chaos` as a command: what it says of itself, and that it leaves nothing behind, however it ends."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.processes import eventually

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chaos", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def start(folder: Path, log_path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "chaos", "--seed", "7", "--folder", str(folder)]
    with log_path.open("wb") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)


def processes_in(folder: Path) -> list[psutil.Process]:
    """Return the processes that work in `folder` or name it: all that a run starts."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [process.cwd(), *process.cmdline()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(folder) in word for word in words):
            found.append(process)
    return found


def is_alive(process: psutil.Process) -> bool:
    """Tell whether it runs; one that has ended may wait for the init process, whose child it has become."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class TestHelp:
    def test_says_what_happens_what_the_exit_status_means_and_how_to_replay(self) -> None:
        told = run("--help").stdout
        for words in ("Break a running service", "exit status: 0", "--seed 7", "CHAOS_SEED", "examples:"):
            assert words in told


class TestPlan:
    def test_is_shown_without_starting_anything_and_is_the_same_again(self) -> None:
        first, second = (run("--seed", "7", "--seconds", "90", "--plan") for _ in range(2))
        assert first.returncode == 0
        assert "postgres: frozen for" in first.stdout
        assert first.stdout == second.stdout
        assert first.stdout != run("--seed", "8", "--seconds", "90", "--plan").stdout

    def test_that_has_no_room_is_refused_in_one_line_with_status_2(self) -> None:
        ended = run("--seconds", "5")
        assert (ended.returncode, ended.stderr) == (2, "error: a run takes 30 s at least\n")


@pytest.mark.slow
class TestRun:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    async def test_that_is_ended_ends_every_process_it_has_started_and_removes_its_files(
        self, tmp_path: Path, number: signal.Signals
    ) -> None:
        log_path = tmp_path / "chaos.log"
        folder = tmp_path / "stage"
        folder.mkdir()
        chaos = start(folder, log_path)
        try:

            async def has_begun() -> bool:
                assert chaos.poll() is None, log_path.read_text()
                return "the load begins" in log_path.read_text()

            await eventually(has_begun, "everything is up")
            started = processes_in(folder)
            assert len(started) > 5  # two services, worker, simulator, and PostgreSQL's own
            chaos.send_signal(number)

            async def has_ended() -> bool:
                return chaos.poll() is not None

            await eventually(has_ended, "chaos ends")
        finally:
            if chaos.poll() is None:
                os.killpg(chaos.pid, signal.SIGKILL)
            await asyncio.to_thread(chaos.wait)
        assert chaos.returncode == 130
        assert [process for process in started if is_alive(process)] == []
        assert list(folder.iterdir()) == []

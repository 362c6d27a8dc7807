"""The `sms-foundation` commands as processes of their own, on ports of their own, with nothing from our environment."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson

from sms_foundation.core.config import LOCAL_AUTH_TOKEN
from sms_foundation.core.local_postgres import LocalPostgres
from sms_foundation.providers.twilio.signature import sign
from tests.support.access import ADMIN_KEY
from tests.support.http_connection import Answer, HttpConnection, RefusedError
from tests.support.service import BASE_URL, SMS_PATH, STATUS_PATH, TENANT_PHONE, Pairs, status_form, text_form

_SOURCES = Path(__file__).parents[2] / "src"
_PATIENCE_S = 30.0


async def eventually(is_true: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait until `is_true`; fails the test, saying `what` did not come true, after half a minute."""
    deadline = time.monotonic() + _PATIENCE_S
    while not await is_true():
        assert time.monotonic() < deadline, f"{what}: not within {_PATIENCE_S:.0f} s"
        await asyncio.sleep(0.02)


class Process:
    """One command, leader of a session of its own. Everything that it and its children print goes to `log_path`."""

    def __init__(self, arguments: list[str], environment: dict[str, str], folder: Path, log_path: Path) -> None:
        self.log_path = log_path
        with log_path.open("wb") as log:
            self._popen = subprocess.Popen(
                arguments,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        return self._popen.poll() is None

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8")

    @property
    def events(self) -> list[dict[str, Any]]:
        """The log's lines; each must be a JSON object."""
        return [orjson.loads(line) for line in self.log_path.read_bytes().splitlines()]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self._popen.send_signal(number)

    def press_ctrl_c(self) -> None:
        """Do what a terminal does: SIGINT to the command and whatever it has started."""
        os.killpg(self.pid, signal.SIGINT)

    def kill(self) -> None:
        """kill -9."""
        self._popen.kill()
        self._popen.wait()

    async def exit_code(self) -> int:
        """Wait for the end."""

        async def has_ended() -> bool:
            return not self.is_running

        await eventually(has_ended, f"process {self._popen.args!r} ends")
        return self._popen.wait()

    def end(self) -> None:
        """Kill whatever is left of the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()


class ServiceProcess(Process):
    """A process that serves HTTP on `port`."""

    def __init__(
        self, arguments: list[str], environment: dict[str, str], folder: Path, log_path: Path, port: int
    ) -> None:
        super().__init__(arguments, environment, folder, log_path)
        self.port = port

    def connect(self) -> HttpConnection:
        return HttpConnection(self.port)

    async def get(self, target: str, **headers: str) -> Answer:
        """GET over a connection of its own."""
        async with self.connect() as connection:
            return await connection.get(target, **headers)

    async def until_status(self, target: str, status: int) -> Answer:
        """Ask until the answer has this status."""
        answers: list[Answer] = []

        async def has_status() -> bool:
            assert self.is_running, f"it ended:\n{self.log[-2000:]}"
            try:
                answers.append(await self.get(target))
            except RefusedError:
                return False
            return answers[-1].status == status

        await eventually(has_status, f"{target} is {status}")
        return answers[-1]

    async def until_ready(self) -> None:
        await self.until_status("/health/ready", 200)

    async def conversation(self, phone: str = TENANT_PHONE) -> dict[str, Any]:
        """Read a conversation, which must exist."""
        answer = await self.get(f"/conversations/{phone}?limit=100")
        assert answer.status == 200, answer.body
        return dict(answer.json())


async def post_signed(connection: HttpConnection, path: str, pairs: Pairs, **headers: str) -> Answer:
    """POST `pairs` as Twilio does, for a service whose PUBLIC_BASE_URL is BASE_URL."""
    return await connection.post_form(path, pairs, sign(LOCAL_AUTH_TOKEN, BASE_URL + path, pairs), **headers)


async def send_text(
    connection: HttpConnection, sid: str, body: str = "Hello", *, sender: str = TENANT_PHONE, **more: str
) -> Answer:
    """Let a text arrive."""
    return await post_signed(connection, SMS_PATH, text_form(sid, body, sender=sender, **more))


async def send_status(connection: HttpConnection, sid: str, status: str, **more: str) -> Answer:
    """Let a status callback arrive."""
    return await post_signed(connection, STATUS_PATH, status_form(sid, status, **more))


class Processes:
    """Starts commands below `folder`; `end` leaves no process and no server behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = folder / "a folder of its own"
        self._started: list[Process] = []
        self._ports: list[socket.socket] = []

    def reserve_port(self) -> int:
        """Return a port that nobody else gets while the test runs: bound here, listened on by what the test starts."""
        reserved = socket.socket()
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        self._ports.append(reserved)
        port: int = reserved.getsockname()[1]
        return port

    def environment(self, **changes: str) -> dict[str, str]:
        """What a process gets to see: no setting of the developer's, no limits, and a home in the test's folder."""
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(_SOURCES),  # this tree, whichever one the environment was made for
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "SMS_DATA_DIR": str(self.data_dir),
            "CLIENT_LIMIT": "off",
            "NUMBER_LIMIT": "off",
            "ADMIN_API_KEY": ADMIN_KEY,  # the first start prints one otherwise, which is no line of the log
            **changes,
        }

    def start(self, *arguments: str, **environment: str) -> Process:
        """Start `sms-foundation ARGUMENTS`."""
        process = Process(_command(*arguments), self.environment(**environment), self.folder, self._log_path())
        self._started.append(process)
        return process

    def serve(self, *, port: int | None = None, **environment: str) -> ServiceProcess:
        """Start `sms-foundation serve` behind BASE_URL. Wait until it is ready before you rely on it."""
        port = port or self.reserve_port()
        return self._start_service(port, _command("serve", "--port", str(port)), environment)

    def work(self, *, port: int | None = None, **environment: str) -> ServiceProcess:
        """Start `sms-foundation worker` with a port."""
        port = port or self.reserve_port()
        return self._start_service(port, _command("worker", "--port", str(port)), environment)

    def serve_simulator(self, *, port: int, **environment: str) -> ServiceProcess:
        """Start `sms-foundation simulator`, which delivers to PORT."""
        return self._start_service(port, _command("simulator", "--port", str(port)), environment)

    def run(self, *, port: int, simulator_port: int, **environment: str) -> ServiceProcess:
        """Start `sms-foundation run`, by the script that a newcomer's shell finds."""
        options = ["--port", str(port), "--simulator-port", str(simulator_port)]
        return self._start_service(port, [str(script()), "run", *options], environment, public_base_url=None)

    def _start_service(
        self, port: int, command: list[str], environment: dict[str, str], *, public_base_url: str | None = BASE_URL
    ) -> ServiceProcess:
        if public_base_url is not None:
            environment = {"PUBLIC_BASE_URL": public_base_url, **environment}
        process = ServiceProcess(command, self.environment(**environment), self.folder, self._log_path(), port)
        self._started.append(process)
        return process

    def _log_path(self) -> Path:
        return self.folder / f"{len(self._started)}.log"

    def end(self) -> None:
        """Kill what still runs, the embedded server included."""
        for process in self._started:
            process.end()
        for reserved in self._ports:
            reserved.close()
        if (self.data_dir / "data" / "postmaster.pid").exists():
            LocalPostgres(self.data_dir).start().stop()


def script() -> Path:
    """The installed `sms-foundation`."""
    return Path(sys.executable).with_name("sms-foundation")


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "sms_foundation", *arguments]

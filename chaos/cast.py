"""Who plays: two services, a worker, the simulator, each a process of its own that can be killed and started again."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import aiohttp
import orjson

from chaos.errors import ChaosError
from chaos.plan import SERVICES, WORKER
from chaos.record import Evidence
from sms_foundation.auth.keys.format import generate_key
from sms_foundation.core.config import LOCAL_ACCOUNT_SID, LOCAL_AUTH_TOKEN, LOCAL_PHONE_NUMBER
from sms_foundation.core.local_accounts import LOCAL_MESSAGEBIRD_ACCESS_KEY, LOCAL_MESSAGEBIRD_SIGNING_KEY

_ROOT: Final = Path(__file__).parent.parent
_INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")  # what a developer has exported must not count
_READY_TIMEOUT_S: Final = 60.0
_TERM_TIMEOUT_S: Final = 20.0  # twice SHUTDOWN_TIMEOUT_S
_YOUTH_S: Final = 10.0
_WATCH_S: Final = 0.2
_RESTART_S: Final = 1.0
_SETTINGS: Final[Mapping[str, str]] = {
    "APP_ENV": "local",
    "OPEN_ACCESS": "false",
    "CLIENT_LIMIT": "off",
    "NUMBER_LIMIT": "off",
    "FAILURE_LIMIT": "off",
    "LOG_FORMAT": "json",
    # The longest call to a provider takes 13 s, and the simulator's latest answer 12 s: both have to be over by then.
    "WORK_LEASE_S": "30",
    "UNKNOWN_SETTLE_S": "20",
    # In production half an hour and a quarter of one. Nothing else is asked of them here than there: to come round.
    "STATUS_POLL_AFTER_S": "10",
    "RECONCILE_INTERVAL_S": "10",
}


class Actor:
    """One process of `sms-foundation` and its log. It is up from `start` on, until it is taken down on purpose."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.log_path = folder / f"{name}.log"
        self.is_meant_to_run = False
        self._command = [sys.executable, "-m", "sms_foundation", *arguments]
        kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        path = os.pathsep.join(map(str, (_ROOT, _ROOT / "src")))
        self.environment = {**kept, "PYTHONPATH": path, **environment}
        self._folder = folder
        self.turn = asyncio.Lock()
        """Held by whoever ends it until it is started again."""
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    def start(self) -> None:
        """Start it, in a session of its own; what it prints is added to the log. It may not be ready for a while.

        Raises RuntimeError while it runs: the one before would be forgotten, and run for ever.
        """
        if self._process is not None and self._process.poll() is None:
            raise RuntimeError(f"{self.name} runs already")
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,  # a .env of the project must not count either
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches us alone
            )
        self.is_meant_to_run = True
        self._started = time.monotonic()

    @property
    def is_young(self) -> bool:
        """It may not have come so far yet that it knows what to do about a signal."""
        return time.monotonic() - self._started < _YOUTH_S

    @property
    def exit_status(self) -> int | None:
        """None while it runs, or before it was ever started."""
        return None if self._process is None else self._process.poll()

    @property
    def has_ended_by_itself(self) -> bool:
        return self.is_meant_to_run and self.exit_status is not None

    def kill(self) -> None:
        """kill -9 to it and whatever it has started, and wait for its end. Idempotent."""
        self.is_meant_to_run = False
        if self._process is not None:
            if self._process.poll() is None:  # ours until it is waited for: the number cannot be anybody else's
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    async def terminate(self) -> int | None:
        """SIGTERM; return its exit status, None when it does not end in time and had to be killed."""
        self.is_meant_to_run = False
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            return await asyncio.to_thread(self._process.wait, _TERM_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return None
        finally:
            self.kill()

    def log_tail(self) -> str:
        with contextlib.suppress(OSError):
            return self.log_path.read_bytes()[-1000:].decode(errors="replace").strip()
        return ""


class Cast:
    """All processes but the database, on ports that are theirs for the whole run."""

    def __init__(self, folder: Path, database_url: str, settings: Mapping[str, str], evidence: Evidence) -> None:
        """`settings` are those of the services and the worker, above what they have here anyway."""
        self._evidence = evidence
        self._folder = folder
        self.api_key = generate_key(is_test=False).text
        self._ports = {name: _reserve_port() for name in (*SERVICES, WORKER, "simulator")}
        urls = {name: f"http://127.0.0.1:{reserved.getsockname()[1]}" for name, reserved in self._ports.items()}
        self.service_urls = [urls[name] for name in SERVICES]
        self.worker_url, self.simulator_url = urls[WORKER], urls["simulator"]
        self._settings = {
            **_SETTINGS,
            "DATABASE_URL": database_url,
            "ADMIN_API_KEY": self.api_key,
            "SMS_DATA_DIR": str(folder / "keys"),
            "PROVIDERS": _providers(self.simulator_url),
            "MONITOR_API_URL": f"{self.simulator_url}/monitor",
            "TENANT_PROFILE_API_URL": f"{self.simulator_url}/monitor",
            **settings,
        }
        self.actors = {name: self._make(name) for name in (*SERVICES, WORKER)}
        self.simulator = Actor(
            "simulator",
            [
                "simulator",
                *("--port", self._port("simulator")),
                *("--service-url", self.service_urls[0]),
                *("--sms-path", "/webhook/twilio/sms#rc=5&rp=all"),
                # As docs/operations.md advises: at another host, here the other service.
                *("--fallback-url", f"{self.service_urls[1]}/webhook/twilio/sms#rc=5&rp=all"),
            ],
            {"APP_ENV": "local", "LOG_LEVEL": "WARNING", "LOG_FORMAT": "json"},
            folder,
        )

    def _make(self, name: str) -> Actor:
        """Service A works in the background beside its requests; B does not, and the worker does nothing else.

        Each has the public URL under which its providers and callers reach it; the worker's reports go to B.
        """
        url = self.service_urls[0] if name == SERVICES[0] else self.service_urls[1]
        own = {"PUBLIC_BASE_URL": url, "WORK_IN_PROCESS": str(name == SERVICES[0]).lower()}
        command = "worker" if name == WORKER else "serve"
        return Actor(name, [command, "--port", self._port(name)], {**self._settings, **own}, self._folder)

    def _port(self, name: str) -> str:
        return str(self._ports[name].getsockname()[1])

    async def open(self) -> None:
        """Start everybody and wait until they are ready. Raises ChaosError when one does not get there."""
        self.simulator.start()
        simulator = await self._find_problem(self.simulator, f"{self.simulator_url}/simulator/received/summary")
        if problems := [*simulator, *await self.bring_up()]:
            raise ChaosError("; ".join(problems))

    async def bring_up(self) -> list[str]:
        """Start whoever is down and wait until all are ready; returns who did not get there, and its last words."""
        urls = [*self.service_urls, self.worker_url]
        for actor in self.actors.values():
            if actor.exit_status is not None or not actor.is_meant_to_run:
                actor.start()
        return [
            problem
            for actor, url in zip(self.actors.values(), urls, strict=True)
            for problem in await self._find_problem(actor, f"{url}/health/ready")
        ]

    async def watch(self) -> None:
        """Start again whoever ends without being asked to, as a supervisor does, and note it. Runs until cancelled."""
        while True:
            await asyncio.sleep(_WATCH_S)
            for actor in (*self.actors.values(), self.simulator):
                if actor.has_ended_by_itself:
                    self._evidence.accidents.append(f"{actor.name} ended by itself, exit status {actor.exit_status}")
                    if actor is self.simulator:
                        raise ChaosError(f"the simulator has ended: {actor.log_tail()}")
                    await asyncio.sleep(_RESTART_S)
                    if actor.has_ended_by_itself:  # nobody else was quicker
                        actor.start()

    async def list_dead(self) -> dict[str, str]:
        """Return what the operator sees with `sms-foundation dead list`: the kind of work by what it is about."""
        output = await self._run("dead", "list", "--limit", "10000")
        rows = (line.split("\t") for line in output.splitlines())
        return {row[3]: row[1] for row in rows if len(row) > 3}

    async def reconcile(self) -> None:
        """Run the operator's command after an outage; it does what the service does by itself, over a longer time."""
        await self._run("reconcile", "--since", "3h")

    async def _run(self, *arguments: str) -> str:
        """Return what a command of `sms-foundation` prints. Raises ChaosError when it fails."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sms_foundation", *arguments),
            cwd=self._folder,
            env=self.actors[WORKER].environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            output, complaints = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            raise ChaosError(f"`{' '.join(arguments)}` failed: {complaints.decode(errors='replace')[-500:]}")
        return output.decode()

    def close(self) -> None:
        """End every process that was started here and give the ports back. Idempotent."""
        for actor in (*self.actors.values(), self.simulator):
            actor.kill()
        for reserved in self._ports.values():
            reserved.close()

    async def _find_problem(self, actor: Actor, url: str) -> list[str]:
        """Wait until `url` is answered well; return nothing, or that this did not come true."""
        deadline = time.monotonic() + _READY_TIMEOUT_S
        async with aiohttp.ClientSession(trust_env=False) as session:
            while not await _answers(session, url):
                if time.monotonic() > deadline:
                    return [f"{actor.name} does not come up: {actor.log_tail()}"]
                await asyncio.sleep(0.1)
        return []


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=5)) as response:
            return response.status == 200
    return False


def _reserve_port() -> socket.socket:
    """Return a socket bound to a port that nobody else gets meanwhile: only its holder's process listens there."""
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved


def _providers(simulator_url: str) -> str:
    """PROVIDERS: two that can both be asked what they have, without rates: their faults are the subject here."""
    common = {"senders": [LOCAL_PHONE_NUMBER], "rate_per_s": None, "sender_rates": {"*": None}}
    twilio = {"account_sid": LOCAL_ACCOUNT_SID, "auth_token": LOCAL_AUTH_TOKEN, "api_base_url": simulator_url}
    messagebird = {
        "access_key": LOCAL_MESSAGEBIRD_ACCESS_KEY,
        "signing_key": LOCAL_MESSAGEBIRD_SIGNING_KEY,
        "api_base_url": f"{simulator_url}/messagebird",
    }
    accounts = [
        {"kind": "twilio", "name": "twilio", **twilio, **common},
        {"kind": "messagebird", "name": "messagebird", **messagebird, **common},
    ]
    return orjson.dumps(accounts).decode()

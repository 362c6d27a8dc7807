"""`sms-foundation run`, as a newcomer meets it: an empty folder, what it prints, what they copy, Ctrl-C, and again."""

import asyncio
import fcntl
import os
import shlex
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from sms_foundation.simulator.monitor.tenants import STRANGER_NUMBER, example_tenant
from tests.support.processes import Processes, ServiceProcess, eventually, script
from tests.support.sending import call

TENANT = example_tenant()


@dataclass
class Newcomer:
    """What somebody saw who ran it, did what it says in a second terminal, ended it, and ran it once more."""

    port: int
    simulator_port: int
    welcome: str = ""
    commands: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    conversations: dict[str, dict[str, Any]] = field(default_factory=dict)
    sent_output: str = ""
    phone_output: str = ""
    sent_by_hand: dict[str, Any] = field(default_factory=dict)
    delivered_by_hand: dict[str, Any] = field(default_factory=dict)
    failover_outputs: list[str] = field(default_factory=list)
    statuses_output: str = ""
    message: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    is_anything_left: bool | None = None
    is_database_left: bool | None = None
    found_again: dict[str, dict[str, Any]] = field(default_factory=dict)


# As much of curl as the welcome uses.
_CURL = """
import urllib.request
data = sys.argv[sys.argv.index("-d") + 1].encode() if "-d" in sys.argv else None
(url,) = [each for each in sys.argv[1:] if each.startswith("http")]
print(urllib.request.urlopen(url, data).read().decode())
"""


class SecondTerminal:
    """A shell in the same folder that knows nothing of the first one's environment, with curl and python3 at hand."""

    def __init__(self, processes: Processes) -> None:
        self._folder = processes.folder
        tools = processes.folder / "tools"
        tools.mkdir()
        if shutil.which("curl") is None:
            _install(tools / "curl", _CURL)
        self._environment = processes.environment()
        self._environment["PATH"] = f"{tools}:{self._environment['PATH']}"

    async def type(self, line: str) -> str:
        """Run one line and return what it printed; it must succeed."""
        done = await asyncio.to_thread(
            subprocess.run,
            ["/bin/sh", "-c", line],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout.decode()}{done.stderr.decode()}"
        return done.stdout.decode()

    async def type_until_labelled(self, line: str) -> dict[str, Any]:
        """Repeat a line that reads a conversation until its language is there: that comes after the text's answer."""
        read: list[dict[str, Any]] = []

        async def is_labelled() -> bool:
            read.append(orjson.loads(await self.type(line)))
            return read[-1]["language_detected"] != "unknown" and read[-1]["tenant_lookup_status"] != "pending"

        await eventually(is_labelled, "the conversation is labelled")
        return read[-1]

    async def type_until_delivered(self, line: str) -> dict[str, Any]:
        """Repeat a line that lists messages until the newest is delivered; returns that one."""
        read: list[dict[str, Any]] = []

        async def is_delivered() -> bool:
            read.append(orjson.loads(await self.type(line))["messages"][0])
            return bool(read[-1]["status"] == "delivered")

        await eventually(is_delivered, "the message is delivered")
        return read[-1]


def _install(path: Path, program: str) -> None:
    path.write_text(f"#!{sys.executable}\nimport sys\n{program}\n")
    path.chmod(0o755)


def _is_group_alive(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def _welcome_of(run: ServiceProcess) -> str:
    await run.until_ready()
    return "\n".join(line for line in run.log.splitlines() if not line.startswith("{"))


async def _experience(processes: Processes) -> Newcomer:
    seen = Newcomer(processes.reserve_port(), processes.reserve_port())
    run = processes.run(port=seen.port, simulator_port=seen.simulator_port)
    seen.welcome = await _welcome_of(run)
    terminal = SecondTerminal(processes)
    seen.commands = [
        line.strip()
        for line in seen.welcome.splitlines()
        if line.startswith((f"  {shlex.quote(str(script()))}", "  curl"))
    ]
    *inbound, send, phone, post, get, break_one, show = seen.commands
    for write, read in zip(inbound[::2], inbound[1::2], strict=True):
        seen.outputs.append(await terminal.type(write))
        conversation = await terminal.type_until_labelled(read)
        seen.conversations[conversation["phone_number_canonical"]] = conversation

    seen.sent_output = await terminal.type(send)
    seen.phone_output = await terminal.type(phone)
    seen.sent_by_hand = orjson.loads(await terminal.type(post))
    seen.delivered_by_hand = await terminal.type_until_delivered(get)
    seen.failover_outputs.append(await terminal.type(break_one))
    for number in range(4):  # one of them is its turn
        await call(run, "POST", "/v1/sms/send", {"to": STRANGER_NUMBER, "message": f"Call us! {number}"})
    seen.failover_outputs += [await terminal.type(send), await terminal.type(show)]

    sid = seen.conversations[TENANT.texts_from]["messages"][0]["twilio_sid"]
    report = f"{shlex.quote(str(script()))} simulator --port {seen.simulator_port} statuses {sid} sent queued delivered"
    seen.statuses_output = await terminal.type(report)
    seen.message = (await run.get(f"/messages/{sid}")).json()

    run.press_ctrl_c()
    seen.exit_code = await run.exit_code()
    seen.is_anything_left = _is_group_alive(run.pid)
    seen.is_database_left = _is_locked(processes.data_dir / "server.lock")

    run = processes.run(port=seen.port, simulator_port=seen.simulator_port)
    await run.until_ready()
    for phone in seen.conversations:
        seen.found_again[phone] = await run.conversation(phone)
    run.press_ctrl_c()
    await run.exit_code()
    return seen


def _is_locked(server_lock: Path) -> bool:
    """Whether any process of the embedded server lives: they hold this lock, and a zombie does not."""
    with server_lock.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


class TestNewcomer:
    async def test_runs_it_does_what_it_says_ends_it_and_finds_the_texts_again(self, processes: Processes) -> None:
        seen = await _experience(processes)

        _assert_the_welcome_is_true(seen)
        _assert_the_tenant_is_linked(seen)
        _assert_the_stranger_is_unknown(seen)
        _assert_the_statuses_count(seen)
        _assert_texts_go_out(seen)
        assert (seen.exit_code, seen.is_anything_left, seen.is_database_left) == (0, False, False)
        _assert_the_texts_stayed(seen)


def _assert_the_welcome_is_true(seen: Newcomer) -> None:
    assert f"http://127.0.0.1:{seen.port} " in seen.welcome
    assert f"http://127.0.0.1:{seen.simulator_port} " in seen.welcome
    assert "embedded, in " in seen.welcome
    assert len(seen.outputs) == 2  # every command of another terminal was typed word for word, and succeeded
    for output in seen.outputs:
        assert "text delivered: HTTP 200" in output
        assert f"http://127.0.0.1:{seen.port}/conversations/" in output


def _assert_the_tenant_is_linked(seen: Newcomer) -> None:
    conversation = seen.conversations[TENANT.texts_from]
    assert (conversation["language_detected"], conversation["tenant_id"]) == ("es", TENANT.tenant_id)
    assert conversation["tenant_lookup_status"] == "matched"
    assert [each["content"] for each in conversation["messages"]] == ["Hola, no hay agua caliente"]


def _assert_the_stranger_is_unknown(seen: Newcomer) -> None:
    conversation = seen.conversations[STRANGER_NUMBER]
    assert (conversation["language_detected"], conversation["tenant_id"]) == ("es", None)
    assert conversation["tenant_lookup_status"] == "unknown"
    (message,) = conversation["messages"]
    assert message["content"] == "Buenas tardes, ¿todavía está libre el apartamento?"


def _assert_the_statuses_count(seen: Newcomer) -> None:
    assert seen.statuses_output.count("reported: HTTP 200") == 3
    assert seen.message["delivery_status"] == "delivered"
    assert {each["event_status"] for each in seen.message["status_events"]} == {"sent", "queued", "delivered"}
    assert seen.message["raw_webhook_data"]["Body"] == "Hola, no hay agua caliente"


def _assert_texts_go_out(seen: Newcomer) -> None:
    assert "attempt 1 through " in seen.sent_output
    assert "delivered, says " in seen.sent_output.splitlines()[-1]
    assert "Your plumber comes at 10." in seen.phone_output
    assert seen.sent_by_hand["status"] == "accepted"
    assert seen.delivered_by_hand["id"] == seen.sent_by_hand["id"]
    assert seen.delivered_by_hand["message"] == "Yes, it is. Call us!"
    fault, sent, shown = seen.failover_outputs
    assert "account_suspended at twilio" in fault
    assert "delivered, says " in sent.splitlines()[-1]
    assert "twilio           circuit open" in shown
    assert "closed -> open (no call can succeed with this account)" in shown
    assert "messagebird      takes messages" in shown


def _assert_the_texts_stayed(seen: Newcomer) -> None:
    for phone, before in seen.conversations.items():
        again = seen.found_again[phone]
        assert before["messages"][0]["id"] in [message["id"] for message in again["messages"]]
        directions = {message["direction"] for message in again["messages"]}
        assert directions == {"inbound", "outbound"}
        assert again["language_detected"] == "es"


class TestCtrlC:
    async def test_in_the_middle_of_the_first_start_leaves_nothing_running_and_nothing_broken(
        self, processes: Processes
    ) -> None:
        ports = {"port": processes.reserve_port(), "simulator_port": processes.reserve_port()}
        run = processes.run(**ports)

        async def is_setting_up() -> bool:
            return any(processes.data_dir.glob("initdb-*"))

        await eventually(is_setting_up, "initdb runs")
        run.press_ctrl_c()
        assert await run.exit_code() == 0
        assert not _is_group_alive(run.pid)
        assert "Traceback" not in run.log

        run = processes.run(**ports)
        await run.until_ready()


class TestRefusals:
    async def _refusal(self, run: ServiceProcess) -> str:
        """What it says before it gives up, which must be one line."""
        assert await run.exit_code() == 1
        (line,) = run.log.splitlines()
        return line

    async def test_port_in_use_is_one_clear_line(self, processes: Processes) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            run = processes.run(port=port, simulator_port=processes.reserve_port())

            refusal = await self._refusal(run)

        assert refusal == (
            f"error: cannot listen on 127.0.0.1:{port}: Address already in use; choose another with --port"
        )
        assert not processes.data_dir.exists()

    async def test_simulator_port_in_use_is_one_clear_line(self, processes: Processes) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]

            refusal = await self._refusal(processes.run(port=processes.reserve_port(), simulator_port=port))

        assert refusal == f"error: port {port}: Address already in use; choose another with --simulator-port"
        assert not processes.data_dir.exists()

    async def test_a_real_twilio_account_is_not_for_run(self, processes: Processes) -> None:
        run = processes.run(
            port=processes.reserve_port(),
            simulator_port=processes.reserve_port(),
            TWILIO_AUTH_TOKEN="0123456789abcdef0123456789abcdef",
        )

        refusal = await self._refusal(run)

        assert refusal.startswith("error: `run` is for a developer's machine without TWILIO_AUTH_TOKEN")
        assert "0123456789abcdef" not in refusal

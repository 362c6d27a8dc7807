import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest
from click.testing import Result
from starlette.responses import Response
from typer.testing import CliRunner

from sms_foundation.simulator.app import build_app
from sms_foundation.simulator.commands import build_commands
from sms_foundation.simulator.settings import SimulatorSettings
from tests.simulator.servers import AUTH_TOKEN, Receiver, closed_port_url, serve, settings_for, until

SID = "SM" + "0a" * 16


def run(settings: SimulatorSettings, *arguments: str) -> Result:
    return CliRunner().invoke(build_commands(settings), list(arguments))


@pytest.fixture
def simulator_url(receiver: Receiver) -> Iterator[str]:
    with serve(build_app(settings_for(receiver.base_url))) as url:
        yield url


@pytest.fixture
def settings(receiver: Receiver, simulator_url: str) -> SimulatorSettings:
    return settings_for(receiver.base_url, port=httpx.URL(simulator_url).port)


@pytest.fixture
def settings_without_simulator(receiver: Receiver) -> SimulatorSettings:
    return settings_for(receiver.base_url, port=httpx.URL(closed_port_url()).port)


class TestText:
    def test_the_running_simulator_delivers_and_remembers(
        self, settings: SimulatorSettings, simulator_url: str, receiver: Receiver
    ) -> None:
        result = run(settings, "text", "--from", "+15125550142", "Hola, no hay agua")
        assert result.exit_code == 0
        sid = receiver.received[0].form["MessageSid"]
        assert re.search(rf"text delivered: HTTP 200 in \d+ ms, message {sid}", result.stdout)
        assert f"curl '{receiver.base_url}/conversations/+15125550142'" in result.stdout
        phone = httpx.get(f"{simulator_url}/simulator/phones/+15125550142", trust_env=False).json()
        assert phone["sent"][0]["body"] == "Hola, no hay agua"

    def test_without_a_simulator_it_delivers_by_itself(
        self, settings_without_simulator: SimulatorSettings, receiver: Receiver
    ) -> None:
        result = run(
            settings_without_simulator, "text", "--from", "+15125550142", "--media", "https://m.example/a.png", "Mira"
        )
        assert result.exit_code == 0
        assert "delivering straight to" in result.stderr
        assert receiver.received[0].form["MediaUrl0"] == "https://m.example/a.png"

    def test_a_refused_signature_fails_and_says_what_to_do(
        self, settings_without_simulator: SimulatorSettings, receiver: Receiver
    ) -> None:
        result = run(settings_without_simulator, "--auth-token", "wrong", "text", "--from", "+15125550142", "Hola")
        assert result.exit_code == 1
        assert "NOT delivered: HTTP 403" in result.stdout
        assert "TWILIO_AUTH_TOKEN" in result.stdout
        assert receiver.unsigned == 1

    def test_a_service_that_is_not_there_fails_and_says_what_to_do(self) -> None:
        settings = settings_for(closed_port_url(), port=httpx.URL(closed_port_url()).port)
        result = run(settings, "text", "--from", "+15125550142", "Hola")
        assert result.exit_code == 1
        assert "no answer" in result.stdout
        assert "11205" in result.stdout
        assert "make run" in result.stdout

    def test_a_bad_answer_names_twilios_code(self, settings: SimulatorSettings, receiver: Receiver) -> None:
        receiver.answers.append(Response("{}", media_type="application/json"))
        result = run(settings, "text", "--from", "+15125550142", "Hola")
        assert result.exit_code == 1
        assert "Twilio would report 12300" in result.stdout

    @pytest.mark.parametrize("arguments", [["--from", "nobody at all", "Hola"], ["Hola"]])
    def test_a_bad_phone_is_refused_with_or_without_a_simulator(
        self, settings: SimulatorSettings, settings_without_simulator: SimulatorSettings, arguments: list[str]
    ) -> None:
        for each in (settings, settings_without_simulator):
            result = run(each, "text", *arguments)
            assert result.exit_code == 1
            assert "error: " in result.stderr
            assert "Traceback" not in result.output

    def test_something_else_at_the_simulators_address_is_named(
        self, settings: SimulatorSettings, receiver: Receiver
    ) -> None:
        result = run(settings, "text", "--from", "+15125550142", "--simulator-url", receiver.base_url, "Hola")
        assert result.exit_code == 1
        assert "is not the simulator" in result.stderr


class TestStatuses:
    def test_each_is_told(self, settings: SimulatorSettings, receiver: Receiver) -> None:
        result = run(settings, "statuses", SID, "sent", "undelivered", "--error-code", "30007", "--to", "+15125550142")
        assert result.exit_code == 0
        assert [each.form["MessageStatus"] for each in receiver.received] == ["sent", "undelivered"]
        assert receiver.received[1].form["ErrorCode"] == "30007"
        assert "status undelivered reported: HTTP 200" in result.stdout

    def test_an_unknown_one_is_refused(self, settings_without_simulator: SimulatorSettings) -> None:
        result = run(settings_without_simulator, "statuses", SID, "teleported")
        assert result.exit_code == 1
        assert "teleported" in result.stderr


class TestCrowd:
    def test_it_ends_with_its_figures(self, settings: SimulatorSettings, receiver: Receiver) -> None:
        result = run(settings, "crowd", "--count", "30", "--rate", "500", "--seed", "9")
        assert result.exit_code == 0
        assert "finished: 30 delivered, 0 failed" in result.stdout
        assert len(receiver.received) == 30

    def test_failures_are_its_exit_status(self, settings: SimulatorSettings, receiver: Receiver) -> None:
        receiver.answers.append(Response(status_code=503))
        result = run(settings, "crowd", "--count", "3", "--rate", "500")
        assert result.exit_code == 1
        assert "is_delivered=false" in result.stderr

    def test_it_needs_a_running_simulator(self, settings_without_simulator: SimulatorSettings) -> None:
        result = run(settings_without_simulator, "crowd")
        assert result.exit_code == 1
        assert "make run" in result.stderr


class TestTenants:
    def test_the_same_ones_with_and_without_a_simulator(
        self, settings: SimulatorSettings, settings_without_simulator: SimulatorSettings
    ) -> None:
        running = run(settings, "tenants", "--language", "es", "--limit", "3")
        alone = run(settings_without_simulator, "tenants", "--language", "es", "--limit", "3")
        assert running.exit_code == alone.exit_code == 0
        # The running one shares this process, and its log lines with it.
        listed = [line for line in running.stdout.splitlines() if line.startswith("+")]
        assert listed == alone.stdout.splitlines()
        assert len(listed) == 3

    def test_an_unknown_language_is_refused(self, settings: SimulatorSettings) -> None:
        assert run(settings, "tenants", "--language", "fr").exit_code == 1


class TestFaults:
    def test_they_are_set_listed_and_cleared(self, settings: SimulatorSettings) -> None:
        options = ["--provider", "twilio", "--share", "0.5", "--retry-after-s", "3", "--for-s", "60"]
        result = run(settings, "faults", "set", "rate_limit", *options)
        assert result.exit_code == 0
        line = next(line for line in result.stdout.splitlines() if "rate_limit at twilio" in line)
        assert all(part in line for part in ("0 strikes", "share=0.5", "retry_after_s=3", "for_s=60"))
        assert line in run(settings, "faults", "list").stdout
        assert run(settings, "faults", "clear", line.split()[0]).exit_code == 0
        assert "all providers behave" in run(settings, "faults", "list").stdout
        assert run(settings, "faults", "clear", "--seed", "3").exit_code == 0

    @pytest.mark.parametrize(
        "arguments", [["earthquake"], ["html", "--share", "2"], ["html", "--provider", "nobody"], ["html", "--on", "x"]]
    )
    def test_what_is_no_fault_is_refused(self, settings: SimulatorSettings, arguments: list[str]) -> None:
        result = run(settings, "faults", "set", *arguments)
        assert result.exit_code != 0
        assert "Traceback" not in result.output
        assert "all providers behave" in run(settings, "faults", "list").stdout


class TestPhone:
    def test_it_shows_both_directions(self, settings: SimulatorSettings) -> None:
        run(settings, "text", "--from", "+15125550142", "Hola, no hay agua")
        account = f"{settings.own_url}/2010-04-01/Accounts/{settings.account_sid}/Messages.json"
        form = {"To": "+15125550142", "From": settings.phone_number, "Body": "Ya vamos"}
        httpx.post(account, data=form, auth=(settings.account_sid, AUTH_TOKEN), trust_env=False).raise_for_status()
        url = f"{settings.own_url}/simulator/phones/+15125550142"
        until(lambda: httpx.get(url, trust_env=False).json()["received"], bool)
        result = run(settings, "phone", "+15125550142")
        shown = [line for line in result.stdout.splitlines() if "->" in line or "<-" in line]
        assert [line.split(maxsplit=4)[2:] for line in shown] == [
            ["->", settings.phone_number, "Hola, no hay agua"],
            ["<-", settings.phone_number, "Ya vamos"],
        ]

    def test_a_phone_nobody_knows_is_told(self, settings: SimulatorSettings) -> None:
        assert run(settings, "phone", "+15125550199").exit_code == 1


class TestScenario:
    def test_a_bad_one_ends_in_one_line(self, settings: SimulatorSettings) -> None:
        result = run(settings, "--scenario", "sunny-day", "tenants")
        assert result.exit_code == 1
        assert "rough-day" in result.stderr


class TestHelp:
    @pytest.mark.parametrize("command", [
            [], ["text"], ["statuses"], ["crowd"], ["tenants"], ["phone"],
            ["faults"], ["faults", "set"], ["faults", "list"], ["faults", "clear"],
        ],
    )  # fmt: skip
    def test_it_explains_without_showing_the_token(self, settings: SimulatorSettings, command: list[str]) -> None:
        result = run(settings, *command, "--help")
        assert result.exit_code == 0
        assert "Usage" in result.stdout
        assert AUTH_TOKEN not in result.stdout


class TestServe:
    @pytest.mark.slow
    def test_without_a_command_it_serves_and_logs_no_content_until_told_to_stop(self, receiver: Receiver) -> None:
        port = httpx.URL(closed_port_url()).port
        program = (
            "from sms_foundation.simulator.commands import build_commands\n"
            "from sms_foundation.simulator.settings import SimulatorSettings\n"
            "build_commands(SimulatorSettings())()"
        )
        options = ["--port", str(port), "--service-url", receiver.base_url, "--auth-token", AUTH_TOKEN]
        process = subprocess.Popen([sys.executable, "-c", program, *options], stdout=subprocess.PIPE, text=True)
        try:
            settings = settings_for(receiver.base_url, port=port)
            while "A Twilio that runs here" not in _page(settings.own_url):
                assert process.poll() is None
                time.sleep(0.02)
            result = run(settings, "text", "--from", "+15125550142", "Hola, no hay agua")
            assert "text delivered" in result.stdout
            assert "straight" not in result.stderr
            httpx.get(f"{settings.own_url}/simulator/phones/+15125550142", trust_env=False).raise_for_status()
        finally:
            process.terminate()
            log, _ = process.communicate(timeout=10)
        assert process.returncode in (0, -15)
        (delivery,) = [line for line in map(json.loads, log.splitlines()) if "delivery" in line["event"]]
        assert delivery["sender"].endswith("0142")
        assert not any(secret in log for secret in ("5125550142", "Hola", AUTH_TOKEN))


def _page(url: str) -> str:
    try:
        return httpx.get(url, trust_env=False).text
    except httpx.ConnectError:
        return ""

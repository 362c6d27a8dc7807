"""What a process writes to its standard output; the lines come from `logging_child.py`."""

import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

Line = dict[str, Any]


def _write(log_format: str) -> str:
    child = Path(__file__).with_name("logging_child.py")
    return subprocess.run(
        [sys.executable, child, log_format], capture_output=True, check=True, encoding="utf-8", errors="replace"
    ).stdout


@pytest.fixture(scope="module")
def text() -> str:
    return _write("json")


@pytest.fixture(scope="module")
def lines(text: str) -> list[Line]:
    return [orjson.loads(line) for line in text.splitlines()]


def one(lines: list[Line], event: str) -> Line:
    (line,) = (line for line in lines if line["event"] == event)
    return line


class TestLines:
    def test_are_json_objects_with_time_level_event_and_service(self, lines: list[Line]) -> None:
        assert len(lines) > 20
        for line in lines:
            assert list(line)[:4] == ["timestamp", "level", "severity", "event"]
            assert line["service"] == "sms-foundation"
            assert datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta(0)

    def test_name_their_severity_as_google_cloud_does(self, lines: list[Line]) -> None:
        severities = {line["level"]: line["severity"] for line in lines}

        assert severities == {
            "debug": "DEBUG",
            "info": "INFO",
            "warning": "WARNING",
            "error": "ERROR",
            "critical": "CRITICAL",
            "fine": "DEFAULT",
        }

    def test_of_a_trace_link_to_it_in_the_project(self, lines: list[Line]) -> None:
        line = one(lines, "in.a.trace")

        assert line["logging.googleapis.com/trace"] == "projects/a-project/traces/0af7651916cd43dd8448eb211c80319c"
        assert line["logging.googleapis.com/spanId"] == "b7ad6b7169203331"
        assert line["logging.googleapis.com/trace_sampled"] is True

    def test_without_a_project_or_a_trace_link_nowhere(self, lines: list[Line]) -> None:
        linked = {line["event"] for line in lines if any(key.startswith("logging.googleapis") for key in line)}

        assert one(lines, "in.a.trace.elsewhere")["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
        assert linked == {"in.a.trace"}

    def test_hold_their_variables(self, lines: list[Line]) -> None:
        line = one(lines, "plain")

        assert (line["count"], line["at"], line["id"][-1], line["folder"]) == (
            3,
            "2026-01-02T00:00:00+00:00",
            "1",
            "PosixPath('x')",
        )

    def test_below_the_level_are_not_written(self, text: str) -> None:
        assert "quiet" not in text

    def test_of_a_trace_hold_its_id(self, lines: list[Line]) -> None:
        assert one(lines, "in.a.request")["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
        assert not any("trace_id" in one(lines, event) for event in ("plain", "secrets"))

    def test_of_a_request_hold_its_id(self, lines: list[Line]) -> None:
        line = one(lines, "in.a.request")

        assert (line["request_id"], line["worker"], line["level"]) == ("req-1", "one", "warning")
        assert one(lines, "with.another.id")["request_id"] == "req-2"
        assert "request_id" not in one(lines, "plain")
        assert "request_id" not in one(lines, "secrets")

    def test_that_json_cannot_hold_are_written_all_the_same(self, lines: list[Line]) -> None:
        line = one(lines, "odd")

        assert (line["surrogate"], line["bytes"]) == (r"\udcff", r"b'\xff'")
        assert line["big"] == float(2**70)

    def test_setting_up_again_replaces_the_set_up(self, lines: list[Line]) -> None:
        assert len([line for line in lines if line["event"] == "set.up.again"]) == 2


class TestRedaction:
    def test_nothing_secret_is_anywhere(self, text: str) -> None:
        assert "s3cr3t" not in text

    def test_no_full_number_is_anywhere(self, text: str) -> None:
        for number in ("4155550123", "5511912345678", "4512345"):
            assert number not in text.replace("1" * 32, "")

    def test_secret_keys_are_named_with_their_value_left_out(self, lines: list[Line]) -> None:
        line = one(lines, "secrets")

        assert {
            value for key, value in line.items() if key not in {"timestamp", "level", "severity", "event", "service"}
        } == {"[redacted]"}

    def test_nested_values_are_looked_at_too(self, lines: list[Line]) -> None:
        assert one(lines, "nested")["form"] == {
            "Body": "[redacted]",
            "From": "***0123",
            "items": [{"Authorization": "[redacted]"}, 1],
        }

    def test_numbers_keep_their_last_four_digits(self, lines: list[Line]) -> None:
        assert {line["name"]: line["value"] for line in lines if line["event"] == "number"} == {
            "e164": "texted from ***0123.",
            "short_e164": "***2345",
            "bare": "GET /conversations/***0123 HTTP/1.1",
            "encoded": "/conversations/***0123",
            "channel": "whatsapp:***0123",
            "several": "***0123,***5678",
        }

    def test_what_is_no_number_stays(self, lines: list[Line]) -> None:
        line = one(lines, "no.number")

        assert (line["a"], line["b"], line["c"], line["d"]) == (
            "12345678",
            "0190b1f2-3c4d-7e5f-8a9b-123456789012",
            "SM" + "1" * 32,
            "2026-11-20",
        )


class TestExceptions:
    def test_show_their_type_and_places_but_not_their_text(self, lines: list[Line]) -> None:
        failed = [line for line in lines if line["event"] == "failed"]

        assert len(failed) == 3
        for line in failed:
            assert line["error_type"] == "ValueError"
            assert any(place.endswith(" _fail") and "logging_child.py:" in place for place in line["error_at"])
            assert "exc_info" not in line

    def test_given_as_a_value_show_their_type_alone(self, lines: list[Line]) -> None:
        assert one(lines, "failed.as.value")["error"] == "ValueError"

    def test_that_nobody_waited_for_are_reported_by_asyncio_the_same_way(self, lines: list[Line]) -> None:
        line = one(lines, "Task exception was never retrieved")

        assert (line["logger"], line["error_type"]) == ("asyncio", "ValueError")


class TestStandardLibrary:
    def test_loggers_go_the_same_way(self, lines: list[Line]) -> None:
        line = one(lines, "called ***0123")

        assert (line["level"], line["logger"], line["service"]) == ("warning", "library", "sms-foundation")
        assert one(lines, "Started server")["logger"] == "uvicorn.error"

    def test_clients_and_the_server_do_not_log_urls(self, text: str) -> None:
        assert "HTTP Request" not in text
        assert "GET /conversations/+" not in text
        assert len([line for line in text.splitlines() if "/conversations/" in line]) == 2  # the child's own two


class TestConsole:
    def test_is_readable_text_under_the_same_rules(self) -> None:
        text = _write("console")

        assert "in.a.request" in text
        assert "s3cr3t" not in text
        assert "4155550123" not in text
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(text.splitlines()[0])

    def test_auto_means_json_when_nobody_is_looking(self) -> None:
        assert orjson.loads(_write("auto").splitlines()[0])["event"] == "plain"

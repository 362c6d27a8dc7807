"""The smoke test passes where a service does its work, and fails where it does not."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sms_foundation.core.db import DatabaseUrl
from tests.infrastructure.files import ROOT
from tests.support.access import ADMIN_KEY
from tests.support.processes import Processes, ServiceProcess
from tests.support.service import BASE_URL

TOKEN = "the-token-of-a-real-account"


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(tmp_path)
    yield processes
    processes.end()


@pytest.fixture
async def deployment(processes: Processes, database_url: DatabaseUrl) -> ServiceProcess:
    """A service as it stands in staging: it asks for credentials, and for the signatures of an account."""
    service = processes.serve(
        APP_ENV="staging",
        DATABASE_URL=database_url.dsn,
        TWILIO_AUTH_TOKEN=TOKEN,
        TWILIO_ACCOUNT_SID="AC" + "1" * 32,
    )
    await service.until_ready()
    return service


async def smoke(processes: Processes, port: int, *options: str, **environment: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "scripts" / "smoke.py"),
        "--url",
        f"http://127.0.0.1:{port}",
        "--public-base-url",
        BASE_URL,
        *options,
        env=processes.environment(
            SMS_API_KEY=ADMIN_KEY, TWILIO_AUTH_TOKEN=TOKEN, TWILIO_ACCOUNT_SID="AC" + "1" * 32, **environment
        ),
        cwd=processes.folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


@pytest.mark.slow
class TestSmoke:
    async def test_passes_where_a_signed_text_is_stored(self, processes: Processes, deployment: ServiceProcess) -> None:
        status, out = await smoke(processes, deployment.port)

        assert status == 0, out
        assert out.count("ok      ") == 6
        assert "ok      stores a signed text" in out

    async def test_fails_where_signatures_are_made_for_another_name(
        self, processes: Processes, deployment: ServiceProcess
    ) -> None:
        status, out = await smoke(processes, deployment.port, "--public-base-url", "https://other.example.com")

        assert status == 1
        assert "FAILED  stores a signed text" in out

    async def test_stores_nothing_when_it_is_to_read_only(
        self, processes: Processes, deployment: ServiceProcess
    ) -> None:
        status, out = await smoke(processes, deployment.port, "--read-only")

        assert status == 0, out
        assert "signed text" not in out

    async def test_fails_where_nobody_answers(self, processes: Processes) -> None:
        status, out = await smoke(processes, processes.reserve_port(), "--read-only")

        assert status == 1
        assert "FAILED  is alive" in out

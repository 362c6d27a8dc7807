"""A PostgreSQL of our own that syncs every commit to a real disk, and the ways to break it."""

import asyncio
import contextlib
import signal
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg
import psutil

from chaos.errors import ChaosError
from sms_foundation.core.db import parse_database_url
from sms_foundation.core.local_postgres import LocalPostgres
from sms_foundation.migrations import runner

_PREFERRED: Final = Path("/usr/lib/postgresql/15/bin")  # what production runs; otherwise what the embedded one uses
_DATABASE: Final = "sms"
_END_TIMEOUT_S: Final = 30.0
_CUT: Final = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = $1 AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


class Postgres:
    """One server and the database of the service on it. `down` is held while the server is meant to be away."""

    def __init__(self, folder: Path) -> None:
        self.log_path = folder / "postgres.log"
        self._server = LocalPostgres(folder, binaries=_PREFERRED if (_PREFERRED / "postgres").exists() else None)
        self._pid_file = folder / "data" / "postmaster.pid"
        self._frozen: list[psutil.Process] = []
        self.description = ""

    @property
    def url(self) -> str:
        return urlsplit(self._server.url)._replace(path=f"/{_DATABASE}").geturl()

    async def open(self) -> None:
        """Start the server and make the database. Raises ChaosError where a commit would not reach the disk."""
        await asyncio.to_thread(self._server.start)
        connection = await asyncpg.connect(self._server.url)
        try:
            version, fsync = [await connection.fetchval(f"SHOW {name}") for name in ("server_version", "fsync")]
            if fsync != "on":
                raise ChaosError("the database server runs with fsync off: nothing would be proved")
            self.description = f"PostgreSQL {version}, fsync {fsync}"
            await connection.execute(f"CREATE DATABASE {_DATABASE}")
        finally:
            await connection.close()
        await runner.upgrade(parse_database_url(self.url))

    async def stop_for(self, seconds: float, how: signal.Signals) -> None:
        """End the server, SIGQUIT immediately or SIGINT in order, and start it again after so many seconds."""
        try:
            server = psutil.Process(self._postmaster())
            server.send_signal(how)
            deadline = time.monotonic() + _END_TIMEOUT_S
            while _is_alive(server):
                if time.monotonic() > deadline:
                    raise ChaosError("PostgreSQL does not end")
                await asyncio.sleep(0.02)
            await asyncio.sleep(seconds)
        finally:
            await asyncio.to_thread(self._server.start)

    async def freeze_for(self, seconds: float) -> None:
        """Let all its processes stand still, the first one first. Each is a group of its own."""
        postmaster = psutil.Process(self._postmaster())
        self._frozen = [postmaster]
        try:
            postmaster.suspend()
            await asyncio.to_thread(_wait_until_stopped, postmaster)  # until then it may make another one
            self._frozen = [*postmaster.children(recursive=True), postmaster]
            for process in self._frozen:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()
            await asyncio.sleep(seconds)
        finally:
            self.thaw()

    def thaw(self) -> None:
        """Let what was frozen go on. Idempotent."""
        for process in self._frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        self._frozen = []

    async def cut(self) -> int:
        """End every connection of the service from the server's side; returns how many."""
        connection = await asyncpg.connect(self._server.url, timeout=10)
        try:
            return int(await connection.fetchval(_CUT, _DATABASE))
        finally:
            await connection.close()

    def close(self) -> None:
        """Stop the server. Idempotent."""
        self.thaw()
        self._server.stop()

    def _postmaster(self) -> int:
        return int(self._pid_file.read_text().split()[0])


def _wait_until_stopped(process: psutil.Process) -> None:
    while process.status() != psutil.STATUS_STOPPED:
        time.sleep(0.001)


def _is_alive(process: psutil.Process) -> bool:
    """Tell whether it runs: one that has ended and waits for its parent does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False

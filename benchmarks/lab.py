"""What every scenario works with: the servers under test, one measured run of requests, the rows it left."""

import contextlib
import http.client
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.database import PostgresServer
from benchmarks.errors import BenchmarkError
from benchmarks.processes import Server, cpu_seconds, free_port, serving
from benchmarks.replay import Replayed, is_success, percentile, replay
from benchmarks.report import Report
from benchmarks.requests import ACCOUNT_SID, API_KEY, AUTH_TOKEN, BASE_URL, TextMaker

_DRAIN_TIMEOUT_S = 120.0
_KEY_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured. A run ends after `run_s` seconds or `run_requests` requests, whichever comes first."""

    rounds: int = 3
    run_s: float = 2.5
    run_requests: int = 20_000
    paced_s: float = 10.0
    history_messages: int = 1_000_000
    backlog_texts: int = 4_000


QUICK = Extent(rounds=1, run_s=1.0, run_requests=6_000, paced_s=3.0, history_messages=50_000, backlog_texts=1_000)


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of requests: what came back, and the CPU time it took in microseconds per successful answer.

    `postgres_cpu_us` is None when the database's processes cannot be seen from here.
    """

    replayed: Replayed
    server_cpu_us: float
    postgres_cpu_us: float | None

    def latency_ms(self, share: float) -> float:
        return percentile(self.replayed.latencies_ms, share)


@dataclass(frozen=True, slots=True)
class Lab:
    """The bench itself: the database server, a scratch folder, and where the figures go."""

    postgres: PostgresServer
    folder: Path
    report: Report
    extent: Extent
    texts: TextMaker

    @contextlib.contextmanager
    def service(self, database_url: str, **settings: str) -> Iterator[Server]:
        """Run the service as deployed, with default settings but for where things are, and no limits.

        Yields it when it is ready and knows API_KEY.
        """
        environment = {
            "APP_ENV": "local",
            "DATABASE_URL": database_url,
            "PUBLIC_BASE_URL": BASE_URL,
            "TWILIO_ACCOUNT_SID": ACCOUNT_SID,
            "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
            "ADMIN_API_KEY": API_KEY,
            "CLIENT_LIMIT": "off",
            "NUMBER_LIMIT": "off",
            "FAILURE_LIMIT": "off",
            **settings,
        }
        port = free_port()
        with serving(
            ["-m", "sms_foundation", "serve", "--port", str(port)],
            port=port,
            ready_path="/health/ready",
            folder=self.folder,
            environment=environment,
        ) as server:
            _wait_for_key(server)
            yield server

    @contextlib.contextmanager
    def bare_route(self) -> Iterator[Server]:
        """Run the yardstick of `bare`."""
        port = free_port()
        with serving(["-m", "benchmarks.bare", str(port)], port=port, ready_path="/", folder=self.folder) as server:
            yield server

    def measure(
        self,
        server: Server,
        requests: Sequence[bytes],
        *,
        connections: int = 64,
        seconds: float | None = None,
        rate: float = 0.0,
    ) -> Measured:
        """Send `requests` and take the time of the server's and of PostgreSQL's processes meanwhile.

        Raises BenchmarkError when nothing succeeded.
        """
        pids = (server.pid, self.postgres.pid)
        before = [cpu_seconds(pid) for pid in pids]
        replayed = replay(
            requests,
            port=server.port,
            connections=connections,
            seconds=self.extent.run_s if seconds is None else seconds,
            rate=rate,
        )
        after = [cpu_seconds(pid) for pid in pids]
        if not replayed.succeeded:
            raise BenchmarkError(f"no request succeeded: {replayed.status_counts()}")
        own, postgres = (
            None if end is None or start is None else (end - start) * 1e6 / replayed.succeeded
            for start, end in zip(before, after, strict=True)
        )
        return Measured(replayed, own or 0.0, postgres)

    def count_lost(self, database_url: str, sids: Sequence[str], replayed: Replayed) -> int:
        """Return how many texts were answered with success and are not in the database."""
        answered = {
            sid for sid, status in zip(sids, replayed.statuses, strict=False) if is_success(status)
        }  # `sids` also holds what was never sent
        rows = self.postgres.query(
            "SELECT count(*) FROM unnest($1::text[]) AS sid WHERE NOT EXISTS "
            "(SELECT FROM sms_messages WHERE provider = 'twilio' AND provider_message_id = sid)",
            list(answered),
            database=database_url,
        )
        return int(rows[0][0])

    def forget_backlog(self, database_url: str) -> None:
        """Drop the background work that a run left behind, so that the next one starts with a service at rest."""
        # Never waits for a row that the service is finishing at this moment: that could be a deadlock.
        self.postgres.query(
            "DELETE FROM work WHERE id IN (SELECT id FROM work WHERE kind = 'message_received' FOR UPDATE SKIP LOCKED)",
            database=database_url,
        )
        time.sleep(0.3)  # what the service has in hand already

    def backlog(self, database_url: str, *, states: Sequence[str] = ("due", "leased")) -> int:
        """Return how many texts wait for their tenant and language."""
        statement = "SELECT count(*) FROM work WHERE kind = 'message_received' AND state = ANY($1)"
        rows = self.postgres.query(statement, list(states), database=database_url)
        return int(rows[0][0])

    def drain_backlog(self, database_url: str) -> None:
        """Wait until no text is due for its tenant and language. Raises BenchmarkError when that takes too long.

        Rows that are leased and yet not run, if there are any, are left: they have to wait for the end of their lease.
        """
        deadline = time.monotonic() + _DRAIN_TIMEOUT_S
        while self.backlog(database_url, states=("due",)):
            if time.monotonic() > deadline:
                raise BenchmarkError("the service does not finish its background work")
            time.sleep(0.1)
        time.sleep(0.5)  # for what is being run


def _wait_for_key(server: Server) -> None:
    """Wait until the service knows API_KEY: its first start makes that client beside everything else."""
    deadline = time.monotonic() + _KEY_TIMEOUT_S
    while _status_with_key(server) != http.client.OK:
        if time.monotonic() > deadline:
            raise BenchmarkError("the service does not accept ADMIN_API_KEY")
        time.sleep(0.02)


def _status_with_key(server: Server) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("GET", "/v1/sms?limit=1", headers={"Authorization": f"Bearer {API_KEY}"})
        return connection.getresponse().status
    finally:
        connection.close()

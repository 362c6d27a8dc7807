"""The embedded PostgreSQL, with real servers and real kills. As root the servers run as `nobody`."""

import asyncio
import atexit
import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from sms_foundation.core.local_postgres import LocalPostgres, LocalPostgresError
from sms_foundation.core.local_postgres_binaries import Account, find_binaries

IS_ROOT = os.geteuid() == 0
NOBODY = pwd.getpwnam("nobody")
CHILD = Path(__file__).with_name("local_postgres_child.py")
PATIENCE_S = 30.0  # of the tests, where a machine may be busy; nothing asserts how long something took

StartChild = Callable[..., "Child"]


class Child:
    """A process of local_postgres_child.py; closing its input ends it."""

    def __init__(self, root: Path, how: str = "hold", *, binaries: str = "", uid: str = "", tmp: Path | None = None):
        environment = {"PATH": os.defpath} | ({"TMPDIR": str(tmp)} if tmp else {})
        command = [sys.executable, str(CHILD), str(root), binaries, how, *([uid] if uid else [])]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def says(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def finish(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cluster to be copied by tests that are not about making one."""
    root = tmp_path_factory.mktemp("cluster")
    with LocalPostgres(root, fast=True):
        pass
    yield root / "data"
    shutil.rmtree(root)


@pytest.fixture
def root(fresh: Path, cluster: Path) -> Path:
    """Like `fresh`, with a cluster in it that has no server yet."""
    fresh.mkdir()
    subprocess.run(["cp", "-Rp", cluster, fresh / "data"], check=True)
    return fresh


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Path]:
    """A folder yet to be made, below one that only we may enter; afterwards no server may be left in it."""
    yield tmp_path / "data"
    for left in tmp_path.rglob("postmaster.pid"):  # by a test that failed half-way
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(left.read_text().split("\n", 1)[0]), signal.SIGQUIT)
    assert processes_in(tmp_path) == []
    shutil.rmtree(tmp_path, ignore_errors=True)  # 40 MB each, which pytest would keep for three runs


@pytest.fixture
def start_child() -> Iterator[StartChild]:
    children: list[Child] = []

    def start(*args: Any, **options: Any) -> Child:
        children.append(Child(*args, **options))
        return children[-1]

    yield start
    for child in children:
        child.close()


@pytest.fixture
def sleeper() -> Iterator[Callable[[int], subprocess.Popen[bytes]]]:
    """A living process that is no server, run as the given uid."""
    running: list[subprocess.Popen[bytes]] = []

    def start(uid: int) -> subprocess.Popen[bytes]:
        running.append(subprocess.Popen(["sleep", "60"], user=uid if IS_ROOT else None))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


def ask(postgres: LocalPostgres | str, *statements: str) -> Any:
    """Run the statements on one connection and return the value of the last."""

    async def run() -> Any:
        connection = await asyncpg.connect(postgres if isinstance(postgres, str) else postgres.url)
        try:
            answers = [await connection.fetchval(statement) for statement in statements]
        finally:
            await connection.close()
        return answers[-1]

    return asyncio.run(run())


def socket_dir(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0])


def pid_file(root: Path) -> Path:
    return root / "data" / "postmaster.pid"


def postmaster(root: Path) -> int:
    return int(pid_file(root).read_text().splitlines()[0])


def kill_postmaster(root: Path) -> int:
    """kill -9 the server's first process and wait until it does not run; returns its number."""
    pid = postmaster(root)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_running(pid))
    return pid


def is_running(pid: int) -> bool:
    """Whether the process runs; a zombie, which its parent may leave lying about, does not."""
    answer = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state = answer.stdout.strip()
    return state != "" and not state.startswith("Z")


def processes_in(folder: Path) -> list[str]:
    """Programs that work below `folder`, after giving them time to end; none are seen where /proc is missing."""

    def found() -> list[str]:
        here = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if str((process / "cwd").readlink()).startswith(str(folder)):
                    here.append((process / "cmdline").read_text())
            except (FileNotFoundError, PermissionError, ProcessLookupError):
                continue  # ended, or somebody else's
        return here

    deadline = time.monotonic() + PATIENCE_S
    while (here := found()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return here


def eventually(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, "did not come true"
        time.sleep(0.005)


def put_into_pid_files(root: Path, url: str, pid: int) -> None:
    for file in (pid_file(root), socket_dir(url) / ".s.PGSQL.5432.lock"):
        _, *rest = file.read_text().splitlines(keepends=True)
        file.write_text(f"{pid}\n{''.join(rest)}")


class TestStart:
    def test_a_folder_with_blanks_and_quotes_works_and_keeps_what_was_written(self, fresh: Path) -> None:
        postgres = LocalPostgres(fresh / "my data, \"$HOME\" 'ünï'", fast=True)
        with postgres:
            ask(postgres, "CREATE TABLE kept AS SELECT 42 AS value")
        with postgres:
            assert ask(postgres, "SELECT value FROM kept") == 42
        assert not socket_dir(postgres.url).exists()

    def test_a_folder_deeper_than_a_socket_path_may_be_works(self, fresh: Path) -> None:
        with LocalPostgres(fresh / ("d" * 120) / ("e" * 120), fast=True) as postgres:
            assert ask(postgres, "SELECT 1") == 1

    def test_is_durable_private_and_in_utc_unless_told_otherwise(self, fresh: Path) -> None:
        with LocalPostgres(fresh) as postgres:
            shown = {
                name: ask(postgres, f"SHOW {name}")
                for name in ("fsync", "synchronous_commit", "full_page_writes", "listen_addresses", "TimeZone")
            }
            assert ask(postgres, "SHOW max_connections") == "100"
            assert socket_dir(postgres.url).stat().st_mode & 0o077 == 0
        assert shown == {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "listen_addresses": "",
            "TimeZone": "UTC",
        }

    def test_texts_and_numbers_of_failed_statements_stay_out_of_the_log(self, root: Path) -> None:
        with LocalPostgres(root, fast=True) as postgres:
            ask(postgres, "CREATE TABLE texts (sender text PRIMARY KEY, body text CHECK (length(body) > 90))")
            for statement in (
                "SELECT 'no hay agua' FROM nowhere",
                "INSERT INTO texts VALUES ('5550100', 'no hay agua')",
            ):
                with pytest.raises(asyncpg.PostgresError):
                    ask(postgres, statement)
        log = (root / "postgres.log").read_text()
        assert "ERROR" in log
        assert "no hay agua" not in log
        assert "5550100" not in log

    def test_a_second_start_of_the_same_instance_changes_nothing(self, root: Path) -> None:
        postgres = LocalPostgres(root, fast=True)
        registered = atexit._ncallbacks()
        postgres.start()
        first = (postmaster(root), postgres.url)
        postgres.start()
        assert (postmaster(root), postgres.url) == first
        postgres.stop()
        assert not pid_file(root).exists()
        postgres.start().stop()
        assert atexit._ncallbacks() == registered + 1

    def test_an_ordinary_user_needs_no_root(self, start_child: StartChild) -> None:
        """As root the child becomes `nobody` for good; else it simply is the user who runs the tests."""
        uid = str(NOBODY.pw_uid) if IS_ROOT else ""
        account = Account(NOBODY.pw_uid, NOBODY.pw_gid) if IS_ROOT else None
        binaries = str(find_binaries(major=None, account=account, only=None))
        folder = Path(tempfile.mkdtemp(prefix="sms test ", dir="/tmp"))  # pytest's own is closed to `nobody`
        try:
            if IS_ROOT:
                os.chown(folder, NOBODY.pw_uid, NOBODY.pw_gid)
            child = start_child(folder / "data", binaries=binaries, uid=uid, tmp=folder)
            url = child.says()["url"]
            assert socket_dir(url).parent == folder  # a TMPDIR with blanks, too
            assert ask(url, "SELECT 1") == 1
            assert pid_file(folder / "data").stat().st_uid == (NOBODY.pw_uid if IS_ROOT else os.geteuid())
            assert child.finish() == 0
            assert processes_in(folder) == []
        finally:
            shutil.rmtree(folder)

    @pytest.mark.skipif(not IS_ROOT, reason="only root can give a folder to somebody else")
    def test_root_serves_the_owner_of_the_folder_and_leaves_it_usable_for_them(self, fresh: Path) -> None:
        fresh.mkdir()
        os.chown(fresh, 12345, 12345)  # in no password file, so initdb must not run as this one
        with LocalPostgres(fresh, fast=True):
            assert (fresh / "data").stat().st_uid == NOBODY.pw_uid
        daemon = pwd.getpwnam("daemon")
        other = fresh / "other"
        other.mkdir()
        os.chown(other, daemon.pw_uid, daemon.pw_gid)
        with LocalPostgres(other, fast=True) as postgres:
            assert ask(postgres, "SELECT 1") == 1
            assert {file.stat().st_uid for file in other.iterdir()} == {daemon.pw_uid}

    def test_an_address_is_known_only_after_the_start(self, fresh: Path) -> None:
        with pytest.raises(LocalPostgresError, match="before start"):
            _ = LocalPostgres(fresh).url


class TestRefusals:
    """Every refusal says what to do and leaves no process behind."""

    def test_a_cluster_of_a_version_that_is_not_here(self, fresh: Path) -> None:
        data = fresh / "data"
        data.mkdir(parents=True)
        (data / "PG_VERSION").write_text("9\n")
        if IS_ROOT:
            os.chown(data, NOBODY.pw_uid, NOBODY.pw_gid)
        with pytest.raises(LocalPostgresError, match=r"PostgreSQL 9, which made the existing cluster.*DATABASE_URL"):
            LocalPostgres(fresh).start()

    def test_binaries_that_are_not_there(self, fresh: Path) -> None:
        with pytest.raises(LocalPostgresError, match=r"no PostgreSQL 15 or newer.*DATABASE_URL.*nowhere"):
            LocalPostgres(fresh, binaries=fresh / "nowhere").start()

    def test_a_folder_of_something_else(self, fresh: Path) -> None:
        (fresh / "data").mkdir(parents=True)
        (fresh / "data" / "letters.txt").write_text("dear")
        with pytest.raises(LocalPostgresError, match="something else than a cluster: move it away"):
            LocalPostgres(fresh).start()
        assert (fresh / "data" / "letters.txt").read_text() == "dear"

    @pytest.mark.skipif(not IS_ROOT, reason="an ordinary user cannot own somebody else's files")
    def test_a_cluster_that_belongs_to_root(self, fresh: Path) -> None:
        (fresh / "data").mkdir(parents=True)
        (fresh / "data" / "PG_VERSION").write_text("18\n")
        with pytest.raises(LocalPostgresError, match="chown -R nobody"):
            LocalPostgres(fresh).start()

    def test_a_folder_that_this_user_may_not_write(self, start_child: StartChild) -> None:
        folder = Path(tempfile.mkdtemp(prefix="sms-test-", dir="/tmp"))
        try:
            folder.chmod(0o555)
            child = start_child(folder / "data", uid=str(NOBODY.pw_uid) if IS_ROOT else "")
            error = child.says()["error"]
            assert "Permission denied" in error
            assert "SMS_DATA_DIR" in error
            assert "\n" not in error
        finally:
            shutil.rmtree(folder)

    def test_a_server_that_ends_while_starting_shows_why(self, root: Path) -> None:
        with LocalPostgres(root, fast=True):
            pass
        with (root / "data" / "postgresql.conf").open("a") as settings:
            settings.write("no_such_setting = 1\n")
        with pytest.raises(LocalPostgresError, match=r"(?s)ended while starting.*no_such_setting"):
            LocalPostgres(root, fast=True).start()

    def test_a_server_that_somebody_started_by_hand_on_another_port(self, root: Path) -> None:
        with LocalPostgres(root, fast=True):
            owner = (root / "data").stat()
        account = Account(owner.st_uid, owner.st_gid) if IS_ROOT else None
        program = find_binaries(major=int((root / "data" / "PG_VERSION").read_text()), account=account, only=None)
        folder = Path(tempfile.mkdtemp(prefix="sms-test-", dir="/tmp"))
        os.chown(folder, owner.st_uid, owner.st_gid)
        data = os.open(root / "data", os.O_RDONLY)
        where = f"/proc/self/fd/{data}" if IS_ROOT else root / "data"
        by_hand = subprocess.Popen(
            [program / "postgres", "-D", where, "-p", "5433", "-k", folder],
            cwd="/",
            pass_fds=(data,),
            user=owner.st_uid if IS_ROOT else None,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            eventually(lambda: pid_file(root).exists() and "ready" in pid_file(root).read_text())
            with pytest.raises(LocalPostgresError, match=r"by hand.*stop it"):
                LocalPostgres(root, fast=True).start()
            assert by_hand.poll() is None
        finally:
            by_hand.terminate()
            by_hand.wait(PATIENCE_S)
            os.close(data)
            shutil.rmtree(folder)


class TestKills:
    def test_kill_9_of_the_application_leaves_a_server_that_the_next_adopts(
        self, root: Path, start_child: StartChild
    ) -> None:
        child = start_child(root)
        url = child.says()["url"]
        pid = postmaster(root)
        child.kill()
        with LocalPostgres(root, fast=True) as postgres:
            assert postmaster(root) == pid
            assert postgres.url == url
            assert ask(postgres, "SELECT 1") == 1
        assert not is_running(pid)

    def test_kill_9_of_the_postmaster_loses_nothing_and_keeps_the_address(self, root: Path) -> None:
        postgres = LocalPostgres(root, fast=True).start()
        url = postgres.url
        ask(postgres, "CREATE TABLE kept AS SELECT 42 AS value")
        killed = kill_postmaster(root)
        with postgres.start():
            assert postmaster(root) != killed
            assert postgres.url == url
            assert ask(postgres, "SELECT value FROM kept") == 42

    def test_kill_9_of_the_postmaster_while_a_statement_runs(self, root: Path) -> None:
        """Its orphaned backend must be gone before a new server may touch the files."""
        postgres = LocalPostgres(root, fast=True).start()

        async def kill_meanwhile() -> None:
            connection = await asyncpg.connect(postgres.url)
            statement = asyncio.ensure_future(connection.fetchval("SELECT count(*) FROM generate_series(1, 3000000)"))
            await asyncio.sleep(0.05)
            os.kill(postmaster(root), signal.SIGKILL)
            postgres.start()
            await asyncio.gather(statement, return_exceptions=True)
            connection.terminate()

        asyncio.run(kill_meanwhile())
        with postgres:
            assert ask(postgres, "SELECT 1") == 1

    def test_kill_9_in_the_middle_of_the_first_initdb(self, fresh: Path, start_child: StartChild) -> None:
        child = start_child(fresh)
        eventually(lambda: any(fresh.glob("initdb-*/PG_VERSION")) or any(fresh.glob("initdb-*/base")))
        child.kill()
        assert not (fresh / "data").exists()
        with LocalPostgres(fresh, fast=True) as postgres:
            assert ask(postgres, "SELECT 1") == 1
            assert processes_in(fresh / "initdb-") == []  # the orphaned initdb ends by itself
        assert list(fresh.glob("initdb-*")) == []

    @pytest.mark.parametrize("named", ["nobody at all", "a living stranger", "a zombie"])
    def test_a_stale_pid_file_naming(
        self, named: str, root: Path, sleeper: Callable[[int], subprocess.Popen[bytes]]
    ) -> None:
        postgres = LocalPostgres(root, fast=True).start()
        # PostgreSQL believes only in processes that it may signal, so the stranger is of the server's own user.
        stranger = sleeper((root / "data").stat().st_uid)
        kill_postmaster(root)
        pid = 2**22 + 1 if named == "nobody at all" else stranger.pid  # above what Linux gives out
        if named == "a zombie":
            os.kill(pid, signal.SIGKILL)  # and nobody has waited for it yet
            eventually(lambda: not is_running(pid))
        put_into_pid_files(root, postgres.url, pid)
        with postgres.start():
            assert ask(postgres, "SELECT 1") == 1
        if named == "a living stranger":
            assert stranger.poll() is None

    def test_stopping_a_killed_server_does_not_signal_who_has_its_number_now(
        self, root: Path, sleeper: Callable[[int], subprocess.Popen[bytes]]
    ) -> None:
        postgres = LocalPostgres(root, fast=True).start()
        stranger = sleeper(os.geteuid())
        kill_postmaster(root)
        assert processes_in(root) == []
        put_into_pid_files(root, postgres.url, stranger.pid)
        postgres.stop()
        assert stranger.poll() is None

    def test_a_socket_folder_removed_by_a_cleaner_of_temporary_files(self, root: Path) -> None:
        postgres = LocalPostgres(root, fast=True).start()
        url, unreachable = postgres.url, postmaster(root)
        shutil.rmtree(socket_dir(url))
        with LocalPostgres(root, fast=True) as another, postgres:
            assert another.url == url
            assert ask(postgres, "SELECT 1") == 1
            assert not is_running(unreachable)

    def test_a_folder_deleted_under_a_running_server(self, root: Path) -> None:
        old = LocalPostgres(root, fast=True).start()
        pid = postmaster(root)
        shutil.rmtree(root)
        try:
            with LocalPostgres(root, fast=True) as new:
                old.stop()  # must not end the other one's
                assert new.url != old.url
                assert ask(new, "SELECT 1") == 1
        finally:
            os.kill(pid, signal.SIGQUIT)  # it would notice by itself, within a minute
            shutil.rmtree(socket_dir(old.url), ignore_errors=True)


class TestUsers:
    def test_two_processes_at_once_make_one_server_and_the_last_to_leave_stops_it(
        self, fresh: Path, start_child: StartChild
    ) -> None:
        first, second = start_child(fresh), start_child(fresh)
        url = first.says()["url"]
        assert second.says()["url"] == url
        pid = postmaster(fresh)
        assert (fresh / "postgres.log").read_text().count("ready to accept connections") == 1
        assert first.finish() == 0
        assert ask(url, "SELECT 1") == 1
        assert second.finish() == 0
        assert not is_running(pid)
        assert not socket_dir(url).exists()

    def test_instances_of_one_process_count_like_processes(self, root: Path) -> None:
        first, second = LocalPostgres(root, fast=True).start(), LocalPostgres(root, fast=True).start()
        first.stop()
        first.stop()
        assert ask(second, "SELECT 1") == 1
        second.stop()
        assert not pid_file(root).exists()

    def test_the_end_of_the_interpreter_stops(self, root: Path, start_child: StartChild) -> None:
        child = start_child(root, "exit")
        url = child.says()["url"]
        assert child.finish() == 0
        assert not socket_dir(url).exists()
        assert not pid_file(root).exists()

    def test_the_end_of_a_forked_child_stops_nothing(self, root: Path, start_child: StartChild) -> None:
        child = start_child(root, "fork")
        assert "url" in child.says()
        assert child.says() == {"answers": True}
        assert child.finish() == 0
        assert not pid_file(root).exists()

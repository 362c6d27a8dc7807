"""PostgreSQL that needs no setting up: its own folder, its own processes, a unix socket and no network port.

What lies in the folder:

    data/          the cluster
    postgres.log   what initdb and the server had to say; never a statement or a row
    setup.lock     held exclusively while somebody creates, starts or stops the server
    users.lock     held shared by every process that uses the server; the last one out stops it
    server.lock    held exclusively by the server's own processes, which inherit it

All three are flock(2) locks, which the kernel drops with their last holder whatever killed it. So no process id is ever
trusted to tell whether the server lives: a pid file may be stale, or name a zombie or a process that has since got the
number.

Source: postmaster.pid, line by line, is in src/include/utils/pidfile.h of PostgreSQL (15 to 18 agree).
"""

import atexit
import contextlib
import fcntl
import os
import pwd
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import quote

from sms_foundation.core.local_postgres_binaries import ENVIRONMENT, Account, LocalPostgresError, find_binaries

__all__ = ["LocalPostgres", "LocalPostgresError"]

_SETTINGS = (
    "listen_addresses=",
    "port=5432",  # only names the socket file
    "max_connections=100",
    "shared_buffers=64MB",
    "cluster_name=sms-foundation",
    "timezone=UTC",
    "log_timezone=UTC",
    "log_checkpoints=off",
    # A failed statement, or the row it failed on, holds phone numbers and texts: neither may reach a log.
    "log_min_error_statement=panic",
    "log_error_verbosity=terse",
)
_FAST_SETTINGS = ("fsync=off", "full_page_writes=off")  # a commit still outlives any process, though not the machine

_SETUP_TIMEOUT_S = 300.0  # longer than one initdb and one start by somebody else
_PROGRAM_TIMEOUT_S = 240.0  # initdb on a slow disk
_START_TIMEOUT_S = 120.0  # crash recovery of a large write-ahead log
_STOP_TIMEOUT_S = 30.0  # then the immediate kind of stop, which recovers at the next start
_POLL_S = 0.005

_SOCKET = ".s.PGSQL.5432"
_SOCKET_DIR_PREFIX = "sms-pg-"
_LOG_BYTES_MAX = 10 * 1024 * 1024
_SOCKET_PATH_BYTES_MAX = 103  # sun_path holds 104 bytes on macOS, 108 on Linux, the closing NUL included

_OPEN_FILES = Path("/proc/self/fd")


class _PidFile(NamedTuple):
    pid: int
    socket_file: Path
    status: str  # "starting", "ready" or "stopping"


class LocalPostgres:
    """One PostgreSQL cluster below `root`, started for the first process that wants it and stopped by the last.

    Every process, and every instance within one, that called `start` counts as a user until `stop` or its own end; a
    normal exit stops too. After kill -9 of the last user the server runs on until the next one adopts it.
    A forked child inherits nothing: its `stop` does nothing unless it called `start` itself. Calls block: a cold start
    for a second or two, a warm one for a fraction, adopting a running server for a millisecond.

    As root, which PostgreSQL refuses, the server runs as the folder's owner, or as `nobody` when that is root.
    `fast` does not outlive a power cut, for tests. `binaries` is a folder that holds `initdb` and `postgres`, version
    15 or newer; without it the `local` extra's or the system's are found, of the cluster's version if there is one.
    """

    def __init__(self, root: Path, *, fast: bool = False, binaries: Path | None = None) -> None:
        self.root = root.expanduser().resolve()
        self._fast = fast
        self._binaries = binaries
        self._data = self.root / "data"
        self._log = self.root / "postgres.log"
        self._socket_dir: Path | None = None
        self._user_lock: int | None = None
        self._user_pid = 0
        self._stops_at_exit = False

    @property
    def url(self) -> str:
        """Where the server listens: `postgresql://postgres@/postgres?host=<socket folder>`, percent-encoded.

        The same after a restart of the server by whomever, so a connection pool may keep it.
        Raises LocalPostgresError before the first `start`.
        """
        if self._socket_dir is None:
            raise LocalPostgresError(f"the PostgreSQL of {self.root} has no address before start()")
        return f"postgresql://postgres@/postgres?host={quote(str(self._socket_dir))}"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Make sure that the server runs, creating the cluster first if there is none, and count as a user of it.

        Called again it starts the server again if that has died, and otherwise does nothing.
        Raises LocalPostgresError when there is nothing to run, nowhere to run it, or it would not come up.
        """
        with self._os_errors_explained():
            self.root.mkdir(parents=True, exist_ok=True)
            with self._setup_lock():
                joined = self._join()
                try:
                    self._socket_dir = self._ready_socket_dir() or self._bring_up()
                except BaseException:
                    if joined:
                        self._leave()
                    raise
        if not self._stops_at_exit:
            atexit.register(self.stop)
            self._stops_at_exit = True
        return self

    def stop(self) -> None:
        """Stop counting as a user; the last one shuts the server down and waits for its end. Again: nothing.

        Raises LocalPostgresError when the server would not end.
        """
        if self._user_lock is None or self._user_pid != os.getpid():
            return
        with self._os_errors_explained():
            try:
                if self._is_user():  # else the folder was deleted; its server notices within a minute and ends
                    with self._setup_lock():
                        if _try_lock(self._user_lock):
                            self._shut_down()
            finally:
                self._leave()

    # Who uses it

    def _join(self) -> bool:
        """Count as a user; False when this process already did. The setup lock is held."""
        if self._is_user():
            return False
        if self._user_lock is not None:  # a parent's, copied by the fork, or that of a folder deleted since
            os.close(self._user_lock)
        self._user_lock = self._open_lock("users.lock")
        self._user_pid = os.getpid()
        fcntl.flock(self._user_lock, fcntl.LOCK_SH)  # waits at most for a last user to let go of it
        return True

    def _is_user(self) -> bool:
        if self._user_lock is None or self._user_pid != os.getpid():
            return False
        try:
            return os.path.samestat(os.fstat(self._user_lock), (self.root / "users.lock").stat())
        except FileNotFoundError:
            return False

    def _leave(self) -> None:
        if self._user_lock is None:
            return
        fcntl.flock(self._user_lock, fcntl.LOCK_UN)  # closing is not enough while a forked child has a copy
        os.close(self._user_lock)
        self._user_lock = None

    @contextlib.contextmanager
    def _setup_lock(self) -> Iterator[None]:
        lock = self._open_lock("setup.lock")
        try:
            if not any(_try_lock(lock) for _ in _until(_SETUP_TIMEOUT_S)):
                raise LocalPostgresError(
                    f"another process has been setting up the PostgreSQL of {self.root} for {_SETUP_TIMEOUT_S:.0f} s: "
                    f"see which one holds setup.lock (lsof), end it, try again"
                )
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # a child forked meanwhile by another thread has a copy
            os.close(lock)

    def _open_lock(self, name: str) -> int:
        lock = os.open(self.root / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._give_to_owner(lock)
        return lock

    def _give_to_owner(self, file: int) -> None:
        """Keep what root makes in somebody's folder usable for that somebody without root."""
        owner = self.root.stat()
        if os.geteuid() == 0 and os.fstat(file).st_uid != owner.st_uid:
            os.fchown(file, owner.st_uid, owner.st_gid)

    # The server's life

    def _ready_socket_dir(self) -> Path | None:
        """Where the server takes connections, as it says itself, for its starter may know another temporary folder."""
        found = self._read_pid_file()
        if found is None or found.status != "ready" or found.socket_file.name != _SOCKET:
            return None
        return found.socket_file.parent if _answers(found.socket_file) else None

    def _bring_up(self) -> Path:
        """Start the server; the setup lock is held and no server was ready a moment ago."""
        lock = self._open_lock("server.lock")
        try:
            socket_dir = self._take_server_lock(lock)
            if socket_dir is not None:
                return socket_dir
            account = self._account()
            binaries = find_binaries(major=self._cluster_major(), account=account, only=self._binaries)
            self._refuse_unknown_server()
            self._clear_left_behind()
            if not (self._data / "PG_VERSION").exists():
                self._create_cluster(binaries, account)
            socket_dir = self._make_socket_dir(lock, account)
            self._launch(binaries, account, socket_dir, lock)
        finally:
            os.close(lock)  # without unlocking: the server's processes hold it through their copies
        return self._await_ready(socket_dir)

    def _take_server_lock(self, lock: int) -> Path | None:
        """Lock `lock` once an earlier server's processes are gone, or return where that server takes connections.

        A start that was orphaned half-way gets its time; the backends of a killed postmaster need a moment to notice. A
        server whose socket was removed (by a cleaner of temporary files) can never be reached again and is stopped.
        """
        for _ in _until(_START_TIMEOUT_S):
            if _try_lock(lock):
                return None
            if socket_dir := self._ready_socket_dir():
                return socket_dir
            found = self._read_pid_file()
            if found is not None and found.status == "ready" and not found.socket_file.exists():
                self._shut_down()
        raise LocalPostgresError(f"a PostgreSQL of {self.root} neither answers nor ends{self._log_tail()}")

    def _launch(self, binaries: Path, account: Account | None, socket_dir: Path, lock: int) -> None:
        settings = (*_SETTINGS, f"unix_socket_directories={socket_dir}", *(_FAST_SETTINGS if self._fast else ()))
        server = [str(binaries / "postgres"), *(word for setting in settings for word in ("-c", setting))]
        # The shell ends at once and leaves the server to init: it is no child of ours, to be reaped when it dies.
        self._run("/bin/sh", "-c", '"$@" &', "sh", *server, account=account, data=self._data, inherited=(lock,))

    def _await_ready(self, socket_dir: Path) -> Path:
        lock = self._open_lock("server.lock")
        try:
            for _ in _until(_START_TIMEOUT_S):
                if self._ready_socket_dir() == socket_dir:
                    return socket_dir
                if _try_lock(lock):
                    shutil.rmtree(socket_dir, ignore_errors=True)
                    raise LocalPostgresError(f"PostgreSQL ended while starting in {self.root}{self._log_tail()}")
        finally:
            os.close(lock)
        raise LocalPostgresError(
            f"PostgreSQL is not ready in {self.root} after {_START_TIMEOUT_S:.0f} s, it may still be recovering: "
            f"try again in a while{self._log_tail()}"
        )

    def _shut_down(self) -> None:
        """End the server, if one runs, and wait until its last process is gone."""
        lock = self._open_lock("server.lock")
        try:
            for how in (signal.SIGINT, signal.SIGQUIT):  # PostgreSQL's "fast" and "immediate"
                told = None
                for _ in _until(_STOP_TIMEOUT_S):
                    if _try_lock(lock):
                        self._clear_left_behind()
                        if told is not None:
                            _remove_socket_dir(told)
                        return
                    # server.lock is taken, so the pid file is this server's. It may not be written yet.
                    found = self._read_pid_file()
                    if found is not None and (told is None or told.pid != found.pid):
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(found.pid, how)
                        told = found
        finally:
            os.close(lock)
        raise LocalPostgresError(f"the PostgreSQL of {self.root} does not end{self._log_tail()}")

    def _refuse_unknown_server(self) -> None:
        """Raise when a server that we did not start, for server.lock is ours, uses the cluster on another port."""
        found = self._read_pid_file()
        if found is not None and _answers(found.socket_file):
            raise LocalPostgresError(
                f"a PostgreSQL that was started by hand uses {self._data}: stop it (kill -INT {found.pid}), try again"
            )

    def _clear_left_behind(self) -> None:
        """Remove what a killed server or initdb left; server.lock is held.

        PostgreSQL itself overlooks a stale pid file, except when its number is some living process's again.
        """
        for unfinished in self.root.glob("initdb-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        found = self._read_pid_file()
        if found is not None:
            _remove_socket_dir(found)
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def _read_pid_file(self) -> _PidFile | None:
        try:
            lines = (self._data / "postmaster.pid").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
            found = _PidFile(int(lines[0]), Path(lines[4], f".s.PGSQL.{lines[3]}"), lines[7].strip())
        except (FileNotFoundError, NotADirectoryError, ValueError, IndexError):  # not there, or being written
            return None
        return found if found.pid > 1 else None  # kill(2) takes 0 and less for whole groups of processes

    # What it needs

    def _account(self) -> Account | None:
        """As whom the server runs when this process is root; None: as ourselves."""
        if os.geteuid() != 0:
            return None
        if (self._data / "PG_VERSION").exists():
            owner = self._data.stat()
            if owner.st_uid == 0:
                raise LocalPostgresError(
                    f"{self._data} belongs to root, as whom PostgreSQL refuses to run: "
                    f"chown -R nobody {shlex.quote(str(self._data))}"
                )
            return Account(owner.st_uid, owner.st_gid)
        with contextlib.suppress(KeyError):  # initdb refuses a user who is not in the password file
            owner_entry = pwd.getpwuid(self.root.stat().st_uid)
            if owner_entry.pw_uid != 0:
                return Account(owner_entry.pw_uid, owner_entry.pw_gid)
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            raise LocalPostgresError(
                f"PostgreSQL refuses to run as root and there is no user 'nobody': "
                f"chown {self.root} to an ordinary user, or set DATABASE_URL"
            ) from None
        return Account(nobody.pw_uid, nobody.pw_gid)

    def _cluster_major(self) -> int | None:
        try:
            return int((self._data / "PG_VERSION").read_text())
        except FileNotFoundError:
            if self._data.is_dir() and any(self._data.iterdir()):
                raise LocalPostgresError(f"{self._data} holds something else than a cluster: move it away") from None
            return None

    def _create_cluster(self, binaries: Path, account: Account | None) -> None:
        """Run initdb beside its final place, then rename: a kill in the middle leaves nothing that looks finished."""
        folder = Path(tempfile.mkdtemp(prefix="initdb-", dir=self.root))
        if account is not None:
            os.chown(folder, *account)
        how = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions"]
        if self._fast:
            how.append("--no-sync")
        self._run(str(binaries / "initdb"), *how, account=account, data=folder)
        folder.rename(self._data)
        # Or a power cut could undo the rename, and the next start would take the cluster for an unfinished one.
        _sync_folder(self.root)

    def _make_socket_dir(self, lock: int, account: Account | None) -> Path:
        """Make the private folder of the socket, outside `root`, whose path may be longer than a socket's may be.

        Its name is the identity of server.lock: no two living servers share it, and it survives restarts.
        """
        identity = os.fstat(lock)
        name = f"{_SOCKET_DIR_PREFIX}{identity.st_dev:x}-{identity.st_ino:x}"
        folder = Path(tempfile.gettempdir()) / name
        if account is not None or len(os.fsencode(folder / _SOCKET)) > _SOCKET_PATH_BYTES_MAX:
            # Root's own TMPDIR may be closed to the server's user.
            folder = Path("/tmp") / name  # noqa: S108 - made private below, and refused when it is not ours
        folder.mkdir(mode=0o700, exist_ok=True)
        owner = folder.lstat()
        ours = {os.geteuid()} | ({account.uid} if account else set())
        if not stat.S_ISDIR(owner.st_mode) or owner.st_uid not in ours:
            raise LocalPostgresError(
                f"{folder} belongs to somebody else: remove it, or set TMPDIR to a folder of yours"
            )
        folder.chmod(0o700)
        if account is not None:
            os.chown(folder, *account)
        # A killed server's, like the pid file: it would be believed if the number is some living process's again.
        (folder / f"{_SOCKET}.lock").unlink(missing_ok=True)
        return folder

    def _run(self, *command: str, account: Account | None, data: Path, inherited: tuple[int, ...] = ()) -> None:
        """Run `command` with `-D data` as `account`, cut off from our terminal, its output going to the log."""
        if self._log.exists() and self._log.stat().st_size > _LOG_BYTES_MAX:
            self._log.replace(self._log.with_suffix(".log.1"))
        with self._log.open("ab") as log, _reachable(data, account) as (where, needed):
            self._give_to_owner(log.fileno())
            try:
                subprocess.run(
                    [*command, "-D", str(where)],
                    check=True,
                    cwd="/",
                    env=ENVIRONMENT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=_PROGRAM_TIMEOUT_S,
                    pass_fds=(*inherited, *needed),
                    start_new_session=True,
                    user=account.uid if account else None,
                    group=account.gid if account else None,
                    extra_groups=[] if account else None,
                )
            except subprocess.SubprocessError as error:
                what = f"{Path(command[0]).name} failed in {self.root}"
                raise LocalPostgresError(f"{what}{self._log_tail()}") from error

    def _log_tail(self) -> str:
        """The log's end, to be put behind a message; PostgreSQL's own words name most causes."""
        try:
            with self._log.open("rb") as log:
                log.seek(max(0, self._log.stat().st_size - 2000))
                tail = log.read().decode(errors="replace").strip()
        except OSError:
            return ""
        return f"; the end of {self._log}:\n{tail}" if tail else ""

    @contextlib.contextmanager
    def _os_errors_explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LocalPostgresError(
                f"cannot keep a PostgreSQL in {self.root}: {error}; make it a folder that this user owns, "
                f"choose another with SMS_DATA_DIR, or set DATABASE_URL"
            ) from error


@contextlib.contextmanager
def _reachable(folder: Path, account: Account | None) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """Yield a name of `folder` that `account` can use, and the files it must inherit for that.

    Another user than ourselves may own the folder and yet be kept from walking down to it, by a home that only root may
    enter. Linux lets a process reach a folder through an open file; elsewhere the programs say what they may not.
    """
    if account is None or not _OPEN_FILES.exists():
        yield folder, ()
        return
    entry = os.open(folder, os.O_RDONLY)
    try:
        yield _OPEN_FILES / str(entry), (entry,)
    finally:
        os.close(entry)


def _answers(socket_file: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(socket_file))
        except OSError:
            return False
        return True


def _remove_socket_dir(server: _PidFile) -> None:
    folder = server.socket_file.parent
    if folder.name.startswith(_SOCKET_DIR_PREFIX):  # not /tmp, where a server started by hand may listen
        shutil.rmtree(folder, ignore_errors=True)


def _try_lock(lock: int) -> bool:
    """Lock exclusively unless anybody else holds it; a shared lock of our own is given up either way."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _until(timeout_s: float) -> Iterator[None]:
    """Yield every few milliseconds, the first time at once, until `timeout_s` has passed."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        yield
        time.sleep(_POLL_S)


def _sync_folder(folder: Path) -> None:
    entry = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(entry)
    finally:
        os.close(entry)

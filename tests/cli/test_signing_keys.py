"""`sms-foundation signing-keys`: a new key where it can be kept, or printed once; and which keys there are."""

from pathlib import Path

from sms_foundation.auth.tokens.private_keys import generate_signing_key, read_pems
from sms_foundation.core.db import Database
from tests.support.command_line import NOWHERE, Run, RunAll, assert_one_line

OLD = generate_signing_key()


async def kids(database: Database) -> list[tuple[str, bool]]:
    rows = await database.pool.fetch("SELECT kid, retires_at FROM auth_signing_keys ORDER BY created_at")
    return [(row["kid"], row["retires_at"] is not None) for row in rows]


class TestRotate:
    async def test_puts_a_new_key_beside_the_old_one_which_retires(
        self, run_all: RunAll, database: Database, tmp_path: Path
    ) -> None:
        (tmp_path / "keys").mkdir()
        variables = {"DATABASE_URL": database.url.dsn, "SIGNING_KEY_PATH": str(tmp_path / "keys")}
        (tmp_path / "keys" / "1.pem").write_text(OLD.pem)
        first, second, listed = await run_all(
            ["signing-keys", "rotate"], ["signing-keys", "rotate"], ["signing-keys", "list"], **variables
        )

        assert (first.status, first.err) == (0, "")
        assert "24 hours more" in first.out
        assert "PRIVATE" not in first.out
        made = sorted(read_pems(file.read_text())[0].kid for file in (tmp_path / "keys").glob("2*.pem"))
        known = await kids(database)
        assert sorted(kid for kid, _ in known) == made
        assert [is_retiring for _, is_retiring in known] == [True, False]
        assert listed.lines[0].startswith(known[1][0])
        assert listed.lines[0].endswith("signs")
        assert "accepted until" in listed.lines[1]
        row = await database.pool.fetchrow("SELECT * FROM auth_audit_log ORDER BY id DESC LIMIT 1")
        assert (row["actor"], row["action"], row["target"]) == ("command-line", "signing_key.rotate", known[1][0])
        assert second.status == 0

    async def test_on_a_developers_machine_the_key_goes_where_the_first_was_made(
        self, run: Run, database: Database, tmp_path: Path
    ) -> None:
        result = await run("signing-keys", "rotate", DATABASE_URL=database.url.dsn)

        assert result.status == 0, result.err
        (file,) = (tmp_path / "data" / "signing-keys").glob("*.pem")
        assert read_pems(file.read_text())[0].kid in result.out

    async def test_prints_a_key_that_it_cannot_keep_and_says_what_to_do(
        self, run_all: RunAll, database: Database, tmp_path: Path
    ) -> None:
        (tmp_path / "key.pem").write_text(OLD.pem)
        variables = {"DATABASE_URL": NOWHERE}
        in_setting, in_file, nowhere = await run_all(
            ({"SIGNING_KEY": OLD.pem}, ["signing-keys", "rotate"]),
            ({"SIGNING_KEY_PATH": str(tmp_path / "key.pem")}, ["signing-keys", "rotate"]),
            ({"APP_ENV": "staging"}, ["signing-keys", "rotate"]),
            **variables,
        )

        for result, word in ((in_setting, "first in SIGNING_KEY"), (in_file, "key.pem"), (nowhere, "into SIGNING_KEY")):
            assert result.status == 0, result.err
            (key,) = read_pems(result.out)
            assert result.out == key.pem
            assert key.kid != OLD.kid
            assert word in result.err
        assert read_pems((tmp_path / "key.pem").read_text())[0].kid == OLD.kid

    async def test_leaves_nothing_behind_when_the_database_cannot_be_reached(self, run: Run, tmp_path: Path) -> None:
        result = await run("signing-keys", "rotate", DATABASE_URL=NOWHERE)

        assert_one_line(result, "Refused")
        assert list((tmp_path / "data" / "signing-keys").glob("*.pem")) == []


class TestList:
    async def test_of_none_says_so(self, run: Run, database: Database) -> None:
        result = await run("signing-keys", "list", DATABASE_URL=database.url.dsn)

        assert (result.status, result.err) == (0, "")
        assert "no key has signed yet" in result.out

"""`sms-foundation invitations`: the secret on a line by itself, and what became of each."""

from sms_foundation.auth.people.secret_texts import SecretKind, find_digest
from sms_foundation.core.db import Database
from tests.support.command_line import Run, RunAll, assert_one_line


class TestCreate:
    async def test_prints_the_invitation_alone_and_the_rest_beside_it(self, run: Run, database: Database) -> None:
        result = await run(
            "invitations", "create", " Ana@Example.com", "--role", "viewer", "--role", "operator",
            DATABASE_URL=database.url.dsn,
        )  # fmt: skip
        row = await database.pool.fetchrow("SELECT * FROM auth_invitations")

        assert result.status == 0, result.err
        assert find_digest(SecretKind.INVITATION, result.out.removesuffix("\n")) == row["digest"]
        assert (row["email"], row["roles"], row["created_by"]) == (
            "ana@example.com",
            ["viewer", "operator"],
            "command-line",
        )
        assert str(row["id"]) in result.err
        assert "makes an account" in result.err

    async def test_of_what_is_wrong_is_one_line(self, run_all: RunAll, database: Database) -> None:
        no_address, no_role, unknown = await run_all(
            ["invitations", "create", "ana", "--role", "viewer"],
            ["invitations", "create", "ana@example.com"],
            ["invitations", "create", "ana@example.com", "--role", "no-such"],
            DATABASE_URL=database.url.dsn,
        )

        assert_one_line(no_address, "email: must be an address")
        assert_one_line(no_role, "roles: name at least one")
        assert_one_line(unknown, "no role no-such")


class TestListAndRevoke:
    async def test_say_what_became_of_them(self, run: Run, run_all: RunAll, database: Database) -> None:
        url = database.url.dsn
        before, *_ = await run_all(
            ["invitations", "list"],
            ["invitations", "create", "ana@example.com", "--role", "viewer"],
            ["invitations", "create", "bob@example.com", "--role", "admin"],
            DATABASE_URL=url,
        )
        first = await database.pool.fetchval("SELECT id FROM auth_invitations ORDER BY id LIMIT 1")
        revoked, again, listed, unknown = await run_all(
            ["invitations", "revoke", str(first)],
            ["invitations", "revoke", str(first)],
            ["invitations", "list"],
            ["invitations", "revoke", "01938c7a-7d0a-7d52-8a4c-0b54a3c5f1aa"],
            DATABASE_URL=url,
        )

        assert before.out == "nobody was invited\n"
        assert (revoked.status, again.status) == (0, 0)
        bob, ana = (line.split("\t") for line in listed.lines)
        assert bob[1:3] == ["bob@example.com", "admin"]
        assert bob[3].startswith("open until ")
        assert ana == [str(first), "ana@example.com", "viewer", "revoked", "command-line"]
        assert "sf_invite_" not in listed.out
        assert_one_line(unknown, "no invitation with this id")

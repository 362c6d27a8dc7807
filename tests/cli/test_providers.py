"""`sms-foundation providers`: who gets messages, who does not and why, and never a secret."""

from datetime import timedelta

import orjson

from sms_foundation.core.db import Database
from tests.support.command_line import Run, RunAll

SECRETS = ("s3cr3t-token", "s3cr3t-key", "s3cr3t-signing")
PROVIDERS = [
    {
        "kind": "twilio",
        "name": "twilio",
        "account_sid": "AC" + "ab" * 16,
        "auth_token": SECRETS[0],
        "senders": ["+15005550006"],
    },
    {"kind": "twilio", "name": "second", "account_sid": "AC" + "cd" * 16, "auth_token": SECRETS[0], "weight": 0},
    {
        "kind": "messagebird",
        "name": "messagebird",
        "access_key": SECRETS[1],
        "signing_key": SECRETS[2],
        "rate_per_s": None,
        "weight": 30,
    },
]


class TestProviders:
    async def test_are_shown_with_state_counts_and_changes(self, run_all: RunAll, database: Database) -> None:
        variables = {"DATABASE_URL": database.url.dsn, "PROVIDERS": orjson.dumps(PROVIDERS).decode()}
        (fresh,) = await run_all(["providers"], **variables)
        await database.pool.execute(
            "UPDATE sms_providers SET circuit = 'open', circuit_until = '2100-01-01T01:30:00Z' WHERE name = 'twilio'"
        )
        await database.pool.execute(
            "UPDATE sms_providers SET weight_percent = 60, "
            "unhealthy_until = '2100-01-01T00:00:00Z' WHERE name = 'messagebird'"
        )
        await database.pool.execute(
            "INSERT INTO sms_provider_windows (provider, started_at, attempts, failures, receipts, late) "
            "SELECT 'twilio', now() - age, 20, 4, 9, 1 FROM unnest($1::interval[]) AS t(age)",
            [_minutes(1), _minutes(2), _minutes(7)],
        )
        await database.pool.execute(
            "INSERT INTO sms_provider_changes (id, provider, what, old, new, reason) "
            "VALUES (gen_random_uuid(), 'twilio', 'circuit', 'closed', 'open', '5 failures in a row')"
        )
        shown, without_changes = await run_all(["providers"], ["providers", "--changes", "0"], **variables)

        assert (fresh.status, fresh.err, fresh.lines[-1]) == (0, "", "no changes yet")
        assert [line for line in fresh.lines if not line.startswith(" ")][:3] == [
            "twilio           takes messages",
            "second           receives only (weight 0)",
            "messagebird      takes messages",
        ]
        lines = [" ".join(line.split()) for line in shown.lines]
        assert lines[:3] == [
            "twilio circuit open: tried again with one message at 01:30:00 UTC",
            "weight 100; 50 segments/s; 1 senders",
            "last 5 minutes: 40 attempts, 8 failed; 18 receipts, 2 late",
        ]
        assert lines[6:8] == [
            "messagebird has a rest until 00:00:00 UTC: too many attempts failed",
            "weight 30, 60 % of it; any rate; 0 senders",
        ]
        assert lines[9] == "last changes, newest first:"
        assert lines[10].endswith("Z twilio circuit: closed -> open (5 failures in a row)")
        assert without_changes.lines == shown.lines[:9]
        assert not any(secret in shown.out + shown.err for secret in SECRETS)

    async def test_none_configured_says_what_to_set(self, run: Run) -> None:
        result = await run("providers", PROVIDERS="[]", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")

        assert (result.status, result.err) == (0, "")
        assert "set PROVIDERS" in result.out


def _minutes(count: int) -> timedelta:
    return timedelta(minutes=count)

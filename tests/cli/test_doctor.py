"""`sms-foundation doctor`: what it prints, and the status it ends with."""

import json
import re
from pathlib import Path

import orjson
import pytest

from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.doctor import examination
from tests.support.command_line import Run

# One that can send and is asked nothing.
PROVIDERS = orjson.dumps(
    [
        {
            "kind": "http",
            "name": "own",
            "send_url": "http://127.0.0.1:9/send",
            "body": {"to": "{to}", "from": "{from}", "text": "{body}"},
            "answer": {"message_id_path": "id"},
            "senders": ["+14155550100"],
        }
    ]
).decode()


@pytest.fixture
def variables(database_url: DatabaseUrl) -> dict[str, str]:
    return {"DATABASE_URL": database_url.dsn, "PROVIDERS": PROVIDERS, "APP_ENV": "test"}


async def test_all_well_is_status_0(run: Run, variables: dict[str, str]) -> None:
    result = await run("doctor", **variables)

    assert (result.status, result.err) == (0, "")
    assert result.out.splitlines()[-1] == "all well, 1 worth knowing"
    assert "NOTICE  webhooks_cannot_be_asked: 1" in result.out


async def test_something_wrong_is_status_1_and_says_what_to_do(
    run: Run, variables: dict[str, str], database: Database
) -> None:
    await database.pool.execute(
        "INSERT INTO work (kind, ref_id, state) VALUES ('tidy_access', $1, 'dead')",
        "00000000-0000-0000-0000-000000000000",
    )

    result = await run("doctor", "--since", "7d", **variables)
    as_json = await run("doctor", "--json", "--all", **variables)

    assert (result.status, as_json.status) == (1, 1)
    assert "WRONG   dead_work: 1" in result.out
    assert "sms-foundation dead replay" in result.out
    report = json.loads(as_json.out)
    (finding,) = (each for each in report["findings"] if each["severity"] == "wrong")
    assert set(finding) == {"name", "severity", "count", "examples", "details", "why", "do"}
    assert (finding["name"], finding["count"], finding["details"]) == ("dead_work", 1, {"tidy_access": 1})
    assert (report["status"], report["since"]) == (1, None)
    assert report["looked_at"] == {"receipts": 0, "messages": 0, "conversations": 0, "work": 1}


@pytest.mark.parametrize(
    "changes", [{"DATABASE_URL": "postgresql://u:s3cr3t@127.0.0.1:9/x"}, {"PORT": "many"}, {"PROVIDERS": "s3cr3t"}]
)
async def test_what_cannot_be_checked_is_status_2(run: Run, variables: dict[str, str], changes: dict[str, str]) -> None:
    result = await run("doctor", "--json", **(variables | changes))

    assert result.status == 2
    assert json.loads(result.out)["status"] == 2
    assert "s3cr3t" not in result.out + result.err


async def test_every_command_that_findings_name_exists(run: Run) -> None:
    """What an operator is told to type at night must not be a riddle."""
    root = Path(examination.__file__).parent
    told = {
        found[1]
        for path in root.glob("*.py")
        for found in re.finditer(r"`sms-foundation ([a-z-]+(?: [a-z]+)?)", path.read_text())
    }
    for each in sorted(told):
        assert (await run(*each.split()[:2], "--help")).status == 0, each


async def test_an_unreadable_period_is_refused(run: Run, variables: dict[str, str]) -> None:
    result = await run("doctor", "--since", "yesterday", **variables)

    assert result.status == 2
    assert "90m, 24h or 7d" in result.err

"""A stolen key that sends to numbers which pay its thief: how far it gets."""

from pathlib import Path

import httpx
import pytest

from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database
from sms_foundation.core.errors import StartupError
from sms_foundation.messaging.outbound.recipients import is_within, read_countries
from tests.support.access import bearer, make_client, make_key
from tests.support.api import refused
from tests.support.command_line import run_python
from tests.support.service import Service, make_settings

US, JAMAICA, RUSSIA, SATELLITE = "+14155550123", "+18765550123", "+79991234567", "+881612345678"
WAYS_IN = [("/v1/sms/send", "message"), ("/sms/send", "body"), ("/api/sms", "body"), ("/messages/send", "body")]


@pytest.fixture
def settings() -> Settings:
    return make_settings(open_access=False, sending_countries="US, ca", client_limit="20/1h", work_in_process=False)


@pytest.fixture
async def thief(service: Service) -> dict[str, str]:
    """Headers of whoever has an operator's key."""
    return bearer(await make_key(service.database, await make_client(service.database, roles=["operator"])))


async def stored(service: Service) -> int:
    return int(await service.database.pool.fetchval("SELECT count(*) FROM sms_messages"))


class TestCountries:
    @pytest.mark.parametrize("recipient", [JAMAICA, RUSSIA, SATELLITE])
    async def test_others_are_refused_by_every_way_in(
        self, service: Service, thief: dict[str, str], recipient: str
    ) -> None:
        for path, text in WAYS_IN:
            answer = await service.client.post(path, json={"to": recipient, text: "Hi"}, headers=thief)
            refused(answer, 403, "sms.number_not_allowed")
            assert recipient[:8] not in answer.text
        batch = {"messages": [{"to": each, "message": "Hi"} for each in (US, recipient)]}
        answer = await service.client.post("/v1/sms/send/batch", json=batch, headers=thief)

        assert [each["status"] for each in answer.json()["results"]] == [202, 403]
        assert await stored(service) == 1

    async def test_a_rule_that_allows_does_not_open_another_country(
        self, service: Service, thief: dict[str, str]
    ) -> None:
        for prefix in (JAMAICA, "+7"):
            rule = {"prefix": prefix, "is_allowed": True}
            assert (await service.client.post("/v1/number-rules", json=rule, headers=thief)).status_code == 200

        for recipient in (JAMAICA, RUSSIA):
            answer = await service.client.post("/v1/sms/send", json={"to": recipient, "message": "Hi"}, headers=thief)
            refused(answer, 403, "sms.number_not_allowed")

    async def test_the_command_line_says_so(self, database: Database, tmp_path: Path) -> None:
        environment = {"DATABASE_URL": database.url.dsn, "SENDING_COUNTRIES": "US", "PATH": "/usr/bin:/bin"}

        result = await run_python(["-m", "sms_foundation", "numbers", "check", JAMAICA], environment, tmp_path)

        assert result.out == f"{JAMAICA}: denied, it is of none of SENDING_COUNTRIES\n", result

    def test_unset_any_may_be_texted(self) -> None:
        assert read_countries(" ") is None
        assert is_within(RUSSIA, None)

    def test_short_codes_are_of_no_country(self) -> None:
        assert is_within("12345", {"US"})

    def test_what_is_no_country_stops_the_start(self) -> None:
        with pytest.raises(StartupError, match="SENDING_COUNTRIES: no ISO 3166 code of a country: UK"):
            read_countries("US,uk")


class TestRate:
    async def test_a_key_sends_no_more_than_its_clients_limit_over_any_number_of_numbers(
        self, service: Service, thief: dict[str, str]
    ) -> None:
        statuses = []
        for last in range(30):
            body = {"to": f"+1415555{last:04d}", "message": "Hi"}
            statuses.append((await service.client.post("/v1/sms/send", json=body, headers=thief)).status_code)

        assert statuses == [202] * 20 + [429] * 10
        assert await stored(service) == 20

    async def test_a_batch_counts_all_its_messages(self, service: Service, thief: dict[str, str]) -> None:
        batch = {"messages": [{"to": f"+1415555{last:04d}", "message": "Hi"} for last in range(19)]}
        first = await service.client.post("/v1/sms/send/batch", json=batch, headers=thief)
        second = await service.client.post("/v1/sms/send/batch", json=batch, headers=thief)

        assert (first.status_code, second.status_code) == (202, 429)

    async def test_other_keys_of_the_client_add_nothing(self, service: Service, thief: dict[str, str]) -> None:
        other = bearer(await make_key(service.database, "tests"))

        async def count(client: httpx.AsyncClient) -> int:
            answers = [
                await client.post("/v1/sms/send", json={"to": US, "message": "Hi"}, headers=each)
                for _ in range(15)
                for each in (thief, other)
            ]
            return sum(each.status_code == 202 for each in answers)

        assert await count(service.client) == 20


async def test_a_thief_of_a_sending_key_changes_no_rule_reads_nothing_and_makes_no_key(service: Service) -> None:
    client = await make_client(service.database, roles=["operator"])
    key = bearer(await make_key(service.database, client, scopes=["messages:send"]))
    for method, path in (
        ("POST", "/v1/number-rules"),
        ("GET", "/v1/sms"),
        ("GET", "/conversations"),
        ("POST", "/v1/keys"),
        ("GET", "/v1/audit"),
        ("PATCH", f"/conversations/{US}"),
    ):
        refused(await service.client.request(method, path, headers=key), 403, "sms.forbidden")

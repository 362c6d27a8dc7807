"""The gate over HTTP: who gets through, what everybody else is answered, and that it stands before every route."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.access_rules import RULES, check_rules
from sms_foundation.auth.address import caller_address, group_of, is_within, operations_networks, parse_networks
from sms_foundation.auth.gate import Access, Rule
from sms_foundation.auth.keys.format import generate_key, prefix_of
from sms_foundation.auth.metrics import AUTH_FAILURES, AUTH_LOOKUPS
from sms_foundation.auth.permissions import Permission
from sms_foundation.auth.refusals import Reason
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl, parse_database_url
from tests.support.access import bearer, make_client, make_key
from tests.support.api import refused
from tests.support.service import TENANT_PHONE, Service, make_settings, running_service
from tests.support.tcp_gate import TcpGate

OUTSIDE = "203.0.113.9"
ASKED = {"to": TENANT_PHONE, "message": "Hello"}
PLACES = ["/v1/clients", "/conversations", "/v1/sms"]


@pytest.fixture
def settings() -> Settings:
    """Nobody is answered without credentials, however often they come without."""
    return make_settings(open_access=False, failure_limit="off", work_in_process=False)


@pytest.fixture
def api(service: Service) -> httpx.AsyncClient:
    return service.client


@pytest.fixture
async def key(database: Database) -> str:
    return await make_key(database, await make_client(database))


@asynccontextmanager
async def serving(url: DatabaseUrl, database: Database, **changes: object) -> AsyncIterator[Service]:
    settings = make_settings(**{"open_access": False, "work_in_process": False, **changes})
    async with running_service(settings, url, database) as service:
        yield service


def counted(reason: Reason) -> float:
    return float(AUTH_FAILURES.labels(reason)._value.get())


async def status_of(client: httpx.AsyncClient, path: str = "/v1/clients", **headers: str) -> int:
    return (
        await client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    ).status_code


class TestCredentials:
    @pytest.mark.parametrize("path", PLACES)
    async def test_a_key_is_taken_as_bearer_token_or_in_a_header_of_its_own(
        self, api: httpx.AsyncClient, key: str, path: str
    ) -> None:
        for headers in (
            bearer(key),
            {"Authorization": f"bearer  {key} "},
            {"AUTHORIZATION": f"BEARER {key}"},
            {"X-API-Key": key},
            {"x-api-key": f" {key} "},
        ):
            assert (await api.get(path, headers=headers)).status_code == 200, headers

    async def test_direct_routes_take_them_too_and_know_the_client(
        self, api: httpx.AsyncClient, key: str, database: Database
    ) -> None:
        for path in ("/v1/sms/send", "/sms/send"):
            response = await api.post(path, json=ASKED, headers=bearer(key))
            assert response.status_code == 202, response.text

        assert [row[0] for row in await database.pool.fetch("SELECT client_id FROM sms_messages")] == ["tests"] * 2

    async def test_what_a_key_is_confined_to_is_all_it_may(self, api: httpx.AsyncClient, database: Database) -> None:
        key = await make_key(database, await make_client(database), scopes=["messages:read"])

        assert await status_of(api, "/v1/sms", **bearer(key)) == 200
        refused(await api.get("/v1/clients", headers=bearer(key)), 403, "sms.forbidden")

    async def test_a_key_works_in_its_networks_alone(self, service: Service, database: Database) -> None:
        key = await make_key(database, await make_client(database), networks=["203.0.113.0/24", "2001:db8::/32"])
        for address, status in (
            ("203.0.113.9", 200),
            ("2001:db8::1", 200),
            ("::ffff:203.0.113.9", 200),
            ("198.51.100.1", 401),
            ("127.0.0.1", 401),
            ("2001:db9::1", 401),
        ):
            async with service.calling_from(address) as client:
                assert await status_of(client, **bearer(key)) == status, address

    async def test_a_key_that_expires_stops_at_that_moment_though_it_is_remembered(
        self, api: httpx.AsyncClient, database: Database
    ) -> None:
        soon = datetime.now(UTC) + timedelta(seconds=1)
        key = await make_key(database, await make_client(database), expires_at=soon)
        statuses: list[tuple[bool, int]] = []
        while datetime.now(UTC) < soon + timedelta(seconds=0.2):
            before = datetime.now(UTC)
            status = await status_of(api, **bearer(key))
            if before >= soon or datetime.now(UTC) < soon:
                statuses.append((before < soon, status))

        assert set(statuses) == {(True, 200), (False, 401)}


class TestRefusal:
    """Whatever is wrong, the answer is the same; what was wrong is counted."""

    async def test_all_are_the_same_401_and_each_is_counted_by_its_reason(
        self, api: httpx.AsyncClient, database: Database, key: str
    ) -> None:
        client = await make_client(database, "off", roles=["admin"])
        of_disabled = await make_key(database, client)
        await database.pool.execute("UPDATE auth_clients SET disabled_at = now() WHERE id = 'off'")
        expired = await make_key(database, "tests", expires_at=datetime.now(UTC) - timedelta(seconds=1))
        elsewhere = await make_key(database, "tests", networks=["203.0.113.0/24"])
        revoked = await make_key(database, "tests")
        await database.pool.execute("UPDATE auth_api_keys SET revoked_at = now() WHERE prefix = $1", prefix_of(revoked))
        last = "0" if key[-1] != "0" else "1"
        cases: list[tuple[Reason, dict[str, str]]] = [
            (Reason.MISSING, {}),
            (Reason.MALFORMED, {"Authorization": "Basic dGVzdHM6c2VjcmV0"}),
            (Reason.MALFORMED, {"Authorization": "Bearer"}),
            (Reason.MALFORMED, {"Authorization": "Bearer "}),
            (Reason.MALFORMED, {"Authorization": ""}),
            (Reason.MALFORMED, {"Authorization": key}),
            (Reason.MALFORMED, {"Authorization": f"Token {key}"}),
            (Reason.MALFORMED, {"Authorization": "Basic dGVzdHM6c2VjcmV0", "X-API-Key": key}),
            (Reason.MALFORMED, bearer("hunter2")),
            (Reason.MALFORMED, bearer("ä")),
            (Reason.MALFORMED, {"X-API-Key": ""}),
            (Reason.CHECKSUM, bearer(key[:-1] + last)),
            (Reason.CHECKSUM, bearer(key[:-1])),
            (Reason.CHECKSUM, bearer("sf_")),
            (Reason.CHECKSUM, bearer(key + "ä")),
            (Reason.CHECKSUM, bearer("sf_live_" + "0" * 100_000)),
            (Reason.UNKNOWN_KEY, bearer(generate_key(is_test=False).text)),
            (Reason.UNKNOWN_KEY, {"X-API-Key": generate_key(is_test=True).text}),
            (Reason.REVOKED_KEY, bearer(revoked)),
            (Reason.EXPIRED_KEY, bearer(expired)),
            (Reason.WRONG_NETWORK, bearer(elsewhere)),
            (Reason.CLIENT_DISABLED, bearer(of_disabled)),
        ]
        bodies, headers = set(), set()
        for reason, given_headers in cases:
            before = counted(reason)
            raw = [(name.encode(), value.encode("latin-1")) for name, value in given_headers.items()]
            response = await api.get("/v1/clients", headers=raw)
            error = refused(response, 401, "sms.unauthorized")
            assert counted(reason) == before + 1, (reason, given_headers)
            bodies.add((error["message"], "details" in error, len(response.content)))
            headers.add(frozenset(response.headers.items()) - {("x-request-id", response.headers["x-request-id"])})
            assert response.headers["www-authenticate"] == "Bearer"
            assert not any(value and value in response.text for value in given_headers.values())

        assert len(bodies) == 1
        assert len(headers) == 1

    async def test_missing_permission_is_403_and_counted(self, api: httpx.AsyncClient, database: Database) -> None:
        key = await make_key(database, await make_client(database, roles=["viewer"]))
        before = counted(Reason.NOT_PERMITTED)

        refused(await api.post("/v1/sms/send", json=ASKED, headers=bearer(key)), 403, "sms.forbidden")
        refused(await api.get("/v1/clients", headers=bearer(key)), 403, "sms.forbidden")

        assert counted(Reason.NOT_PERMITTED) == before + 2
        assert not await database.pool.fetchval("SELECT count(*) FROM sms_messages")

    async def test_a_key_is_in_no_log_line(
        self, api: httpx.AsyncClient, database: Database, key: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        wrong = generate_key(is_test=False).text
        for text in (key, wrong, key[:-1]):
            await api.get("/v1/clients", headers=bearer(text))
            await api.get(f"/nowhere/{text}", headers={"X-API-Key": text})

        printed = "".join(capfd.readouterr())
        assert not any(text in printed for text in (key, wrong, key[:-1]))


class TestOtherInstances:
    async def test_what_is_revoked_on_one_stops_on_the_other_within_5_seconds(
        self, service: Service, database_url: DatabaseUrl, database: Database, settings: Settings, key: str
    ) -> None:
        victim = await make_key(database, await make_client(database, "victim"))
        key_id = await database.pool.fetchval("SELECT id FROM auth_api_keys WHERE client_id = 'victim'")
        async with running_service(settings, database_url, database) as other:
            assert await status_of(service.client, **bearer(victim)) == 200
            assert await status_of(other.client, **bearer(victim)) == 200
            response = await service.client.post(f"/v1/keys/{key_id}/revoke", headers=bearer(key))
            assert response.status_code == 200, response.text
            revoked_at = time.monotonic()

            assert await status_of(service.client, **bearer(victim)) == 401
            accepted_at = revoked_at
            while True:
                asked_at = time.monotonic()
                if await status_of(other.client, **bearer(victim)) == 401:
                    break
                accepted_at = asked_at
                await asyncio.sleep(0.02)
            assert accepted_at - revoked_at < 5

    async def test_a_key_refused_on_the_other_works_there_right_after_it_is_created(
        self, service: Service, database_url: DatabaseUrl, database: Database, settings: Settings, key: str
    ) -> None:
        async with running_service(settings, database_url, database) as other:
            asked = {"client_id": "tests", "name": "new"}
            made = (await service.client.post("/v1/keys", json=asked, headers=bearer(key))).json()["key"]

            assert await status_of(other.client, **bearer(made)) == 200
            assert await status_of(service.client, **bearer(made)) == 200

    async def test_the_database_is_not_asked_for_each_request(self, api: httpx.AsyncClient, key: str) -> None:
        lookups = AUTH_LOOKUPS.labels("key")._value
        started = time.monotonic()
        before = lookups.get()
        for _ in range(50):
            assert await status_of(api, "/v1/roles", **bearer(key)) == 200

        assert lookups.get() - before <= 1 + (time.monotonic() - started) / 2


class TestOutage:
    async def test_known_keys_go_on_then_it_is_503_and_never_401(
        self, database_url: DatabaseUrl, database: Database, key: str
    ) -> None:
        async with TcpGate(database_url) as gate:
            await gate.open()
            async with serving(parse_database_url(gate.url), database, operations_networks="none") as service:
                assert await status_of(service.client, "/health/live", **bearer(key)) == 200
                known_at = time.monotonic()
                await gate.close()
                statuses = set()
                while True:
                    asked_at = time.monotonic()
                    response = await service.client.get("/health/live", headers=bearer(key))
                    statuses.add(response.status_code)
                    if response.status_code != 200:
                        break
                    assert asked_at - known_at < 5
                    await asyncio.sleep(0.05)

                assert statuses == {200, 503}
                refused(response, 503, "sms.unavailable")
                unknown = await service.client.get("/v1/clients", headers=bearer(generate_key(is_test=False).text))
                refused(unknown, 503, "sms.unavailable")
                wrong = await service.client.get("/v1/clients", headers=bearer(key[:-1]))
                refused(wrong, 401, "sms.unauthorized")
                await gate.open()
                assert await status_of(service.client, "/health/live", **bearer(key)) == 200


def rules(*, but: tuple[Rule, ...] = (Access.OPEN, Access.SIGNED)) -> Iterator[tuple[str, str, Rule]]:
    for (method, path), rule in RULES.items():
        if rule not in but:
            yield method, "/".join("x" if part.startswith("{") else part for part in path.split("/")), rule


class TestRules:
    async def test_without_credentials_no_route_is_reached_whatever_is_sent(self, service: Service) -> None:
        async with service.calling_from(OUTSIDE) as client:
            for method, path, _ in rules():
                for body in (b"{", b"", b'{"unheard": "of"}'):
                    response = await client.request(
                        method, path, content=body, params={"limit": "x"}, headers={"Content-Type": "application/json"}
                    )
                    assert (path, response.status_code) == (path, 401)
                    refused(response, 401, "sms.unauthorized")

    async def test_each_asks_for_the_permission_it_declares_and_for_no_other(
        self, service: Service, database: Database
    ) -> None:
        await make_client(database)
        only = {each: await make_key(database, "tests", scopes=[each]) for each in Permission}
        but = {each: await make_key(database, "tests", scopes=[*({*Permission} - {each})]) for each in Permission}
        async with service.calling_from(OUTSIDE) as client:
            for method, path, rule in rules(but=(Access.OPEN, Access.SIGNED, Access.KNOWN)):
                permission = Permission.OPERATIONS_READ if rule is Access.OPERATIONS else Permission(rule)
                without = await client.request(method, path, content=b"{", headers=bearer(but[permission]))
                assert (path, without.status_code) == (path, 403)
                with_it = await client.request(method, path, content=b"{", headers=bearer(only[permission]))
                assert with_it.status_code not in (401, 403), (method, path, with_it.text)
                assert with_it.status_code < 500 or path.startswith("/health"), (method, path, with_it.text)

    async def test_open_routes_ask_for_nothing(self, service: Service) -> None:
        async with service.calling_from(OUTSIDE) as client:
            assert (await client.get("/")).status_code == 307
            assert (await client.get("/openapi.json")).status_code == 200

    def test_a_route_without_a_rule_cannot_be_served(self) -> None:
        with pytest.raises(LookupError, match=r"GET.*/v1/new"):
            check_rules({*RULES, ("GET", "/v1/new")})

    def test_a_rule_without_a_route_is_found(self) -> None:
        with pytest.raises(LookupError, match="/v1/sms/preview"):
            check_rules(RULES.keys() - {("POST", "/v1/sms/preview")})

    @pytest.mark.parametrize("rule", [*RULES.items()], ids=lambda rule: " ".join(rule[0]))
    def test_nothing_that_changes_something_is_open(self, rule: tuple[tuple[str, str], Rule]) -> None:
        (method, path), asked = rule
        if method != "GET" and not path.startswith("/auth/"):
            assert isinstance(asked, Permission) or asked is Access.KNOWN


class TestOperations:
    @pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/metrics"])
    async def test_are_open_inside_and_ask_for_a_key_outside(
        self, service: Service, database: Database, path: str
    ) -> None:
        key = await make_key(database, await make_client(database, roles=["operator"]))
        for address in ("127.0.0.1", "10.1.2.3", "172.31.255.1", "192.168.0.4", "169.254.8.1", "::1", "fd00::1"):
            async with service.calling_from(address) as client:
                assert (await client.get(path)).status_code == 200, address
        for address in (OUTSIDE, "172.32.0.1", "8.8.8.8", "2001:db8::1", ""):
            async with service.calling_from(address) as client:
                assert (await client.get(path)).status_code == 401, address
                assert (await client.get(path, headers=bearer(key))).status_code == 200, address

    @pytest.mark.parametrize(
        ("networks", "open_to"),
        [
            ("all", {"127.0.0.1", "10.1.2.3", OUTSIDE}),
            ("private", {"127.0.0.1", "10.1.2.3"}),
            ("none", set()),
            (f"10.1.0.0/16, {OUTSIDE}", {"10.1.2.3", OUTSIDE}),
        ],
    )
    async def test_networks_are_configurable(
        self, database_url: DatabaseUrl, database: Database, networks: str, open_to: set[str]
    ) -> None:
        async with serving(database_url, database, operations_networks=networks) as service:
            for address in ("127.0.0.1", "10.1.2.3", OUTSIDE):
                async with service.calling_from(address) as client:
                    assert (await client.get("/metrics")).status_code == (200 if address in open_to else 401), address

    async def test_what_a_proxy_nobody_told_us_of_passes_on_is_not_from_inside(self, service: Service) -> None:
        async with service.calling_from("10.1.2.3") as client:
            for headers in (
                {"X-Forwarded-For": OUTSIDE},
                {"X-Forwarded-For": "10.9.9.9"},
                {"Forwarded": "for=10.9.9.9"},
            ):
                assert (await client.get("/metrics", headers=headers)).status_code == 401, headers


class TestForwarded:
    """With FORWARDED_HOPS=1, as on Cloud Run: the proxy adds the last address, callers can write all before it."""

    @pytest.mark.parametrize(
        ("forwarded", "status"),
        [
            ("203.0.113.9", 401),
            ("10.0.0.1, 203.0.113.9", 401),
            ("127.0.0.1,10.0.0.1,203.0.113.9", 401),
            ("203.0.113.9, 10.0.0.1", 200),
            ("10.0.0.1:4711", 200),
            ("[fd00::1]:4711", 200),
            ("unknown", 401),
            ("", 401),
        ],
    )
    async def test_only_what_the_proxy_added_is_believed(
        self, database_url: DatabaseUrl, database: Database, forwarded: str, status: int
    ) -> None:
        async with (
            serving(database_url, database, forwarded_hops=1) as service,
            service.calling_from("169.254.1.1") as client,
        ):
            assert await status_of(client, "/metrics", X_Forwarded_For=forwarded) == status

    async def test_a_key_confined_to_a_network_is_of_no_use_behind_a_proxy_nobody_counts(
        self, service: Service, database: Database
    ) -> None:
        """The connection comes from the proxy, which is in the cluster's network, whoever it speaks for."""
        key = await make_key(database, await make_client(database), networks=["127.0.0.0/8"])

        assert await status_of(service.client, **bearer(key)) == 200
        assert await status_of(service.client, **bearer(key), X_Forwarded_For=OUTSIDE) == 401

    async def test_a_key_confined_to_a_network_cannot_be_used_with_a_made_up_address(
        self, database_url: DatabaseUrl, database: Database
    ) -> None:
        key = await make_key(database, await make_client(database), networks=["192.0.2.0/24"])
        async with (
            serving(database_url, database, forwarded_hops=1) as service,
            service.calling_from("169.254.1.1") as client,
        ):
            for forwarded, status in (
                ("192.0.2.7", 200),
                (f"192.0.2.7, {OUTSIDE}", 401),
                (f"{OUTSIDE},192.0.2.7", 200),
            ):
                assert await status_of(client, X_Forwarded_For=forwarded, **bearer(key)) == status, forwarded

    async def test_without_proxies_the_header_means_nothing(self, service: Service, database: Database) -> None:
        key = await make_key(database, await make_client(database), networks=["192.0.2.0/24"])
        async with service.calling_from(OUTSIDE) as client:
            assert await status_of(client, X_Forwarded_For="192.0.2.7", **bearer(key)) == 401


class TestOpenAccess:
    async def test_by_default_a_developer_on_this_machine_needs_no_key_and_nobody_else_gets_in(
        self, database_url: DatabaseUrl, database: Database
    ) -> None:
        async with serving(database_url, database, open_access=None) as service:
            assert await status_of(service.client) == 200
            assert await status_of(service.client, X_Forwarded_For="127.0.0.1") == 401
            assert await status_of(service.client, Forwarded="for=127.0.0.1") == 401
            for address in ("10.1.2.3", OUTSIDE, "::2"):
                async with service.calling_from(address) as client:
                    assert await status_of(client) == 401, address

    async def test_wrong_credentials_are_refused_even_where_none_are_needed(
        self, database_url: DatabaseUrl, database: Database
    ) -> None:
        async with serving(database_url, database, open_access=True) as service:
            assert await status_of(service.client, **bearer(generate_key(is_test=False).text)) == 401

    async def test_true_opens_it_to_everybody_and_false_to_nobody(
        self, database_url: DatabaseUrl, database: Database
    ) -> None:
        for is_open, status in ((True, 200), (False, 401)):
            async with (
                serving(database_url, database, open_access=is_open) as service,
                service.calling_from(OUTSIDE) as client,
            ):
                assert await status_of(client) == status
                assert await status_of(service.client) == status

    async def test_away_from_a_developers_machine_nobody_gets_in_without(
        self, database_url: DatabaseUrl, database: Database
    ) -> None:
        async with serving(
            database_url, database, app_env="development", open_access=None, twilio_auth_token="t"
        ) as service:
            assert await status_of(service.client) == 401


class TestAddress:
    @given(st.lists(st.ip_addresses().map(str), max_size=5), st.integers(1, 3), st.ip_addresses().map(str))
    def test_what_callers_write_changes_nothing_where_the_proxies_are_in_place(
        self, written: list[str], hops: int, real: str
    ) -> None:
        added = [real, *["10.0.0.1"] * (hops - 1)]
        header = ", ".join([*written, *added]).encode()

        assert caller_address({"client": ("10.0.0.2", 1), "headers": [(b"x-forwarded-for", header)]}, hops) == real

    @given(st.text(max_size=60), st.integers(0, 3))
    def test_is_an_address_or_nothing(self, written: str, hops: int) -> None:
        scope = {"client": ("10.0.0.2", 1), "headers": [(b"x-forwarded-for", written.encode("utf-8", "replace"))]}

        address = caller_address(scope, hops)

        assert address == "" or parse_networks([address.partition("%")[0]])

    def test_headers_of_two_lines_are_one_list(self) -> None:
        headers = [(b"x-forwarded-for", b"198.51.100.1"), (b"x-forwarded-for", b"203.0.113.9")]

        assert caller_address({"client": None, "headers": headers}, 1) == "203.0.113.9"
        assert caller_address({"client": None, "headers": headers}, 2) == "198.51.100.1"
        assert caller_address({"client": None, "headers": []}, 2) == ""

    def test_who_came_past_the_outer_proxy_is_not_taken_for_the_inner_one(self) -> None:
        scope = {"client": ("169.254.1.1", 1), "headers": [(b"x-forwarded-for", b"203.0.113.9")]}

        assert caller_address(scope, 2) == "203.0.113.9"

    @pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "localhost", "private,10.0.0.0/8", "10.0.0.0/8,,"])
    def test_wrong_networks_are_named(self, text: str) -> None:
        with pytest.raises(ValueError, match="is no network"):
            operations_networks(text)

    def test_failures_are_counted_by_address_or_by_what_one_customer_has(self) -> None:
        assert group_of("203.0.113.9") == "203.0.113.9"
        assert group_of("2001:db8::1") == group_of("2001:db8::ffff:ffff:ffff:ffff") == "2001:db8::/64"
        assert group_of("2001:db8:0:1::1") != group_of("2001:db8::1")
        assert group_of("") == "unknown"

    def test_an_address_of_the_other_family_is_nowhere(self) -> None:
        assert not is_within("::1", parse_networks(["0.0.0.0/0"]))
        assert not is_within("nonsense", parse_networks(["0.0.0.0/0", "::/0"]))

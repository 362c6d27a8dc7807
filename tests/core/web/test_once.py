"""A request with an Idempotency-Key happens once, through repetitions, twins, crashes and lost races."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from starlette.types import Scope

from sms_foundation.core.config import Settings
from sms_foundation.core.db import Connection, Database, DatabaseUrl
from sms_foundation.core.errors import ConflictError
from sms_foundation.core.web.bodies import read_body
from sms_foundation.core.web.context import EdgeLoad, RequestContext
from sms_foundation.core.web.errors import install_error_handlers
from sms_foundation.core.web.guarded import GuardedRoute
from sms_foundation.core.web.once import Once
from sms_foundation.core.web.security_headers import SecurityHeaders
from tests.core.test_db_pooler import pooler_for, through
from tests.support.api import refused

Work = Callable[[Connection], Awaitable[object]]
KEY = {"Idempotency-Key": "0c8b1d5e-41f2-4a0b-9c58-3d3f6a0a2b11"}


class Shop:
    """A service with one thing to do: write down what is ordered; `work` runs inside the change, after that."""

    def __init__(self, database: Database, *, keep_hours: int = 24) -> None:
        self.database = database
        self.calls = 0
        self.work: Work | None = None
        self.status = 201
        self._once = Once(database, keep_hours=keep_hours)

    def router(self) -> APIRouter:
        router = APIRouter(route_class=GuardedRoute)
        for path in ("/orders", "/returns"):
            router.add_api_route(path, self._order, methods=["POST", "PATCH"])
        return router

    async def _order(self, request: Request) -> Response:
        body = (await read_body(request, limit_bytes=1000)).decode()

        async def write_down(connection: Connection) -> Response:
            self.calls += 1
            await connection.execute("INSERT INTO orders (what) VALUES ($1)", body)
            if self.work is not None:
                await self.work(connection)
            headers = {"Location": f"/orders/{self.calls}"}
            return Response(f"secret {self.calls}", status_code=self.status, headers=headers, media_type="text/plain")

        return await self._once.run(request, write_down)

    async def orders(self) -> list[str]:
        return [row["what"] for row in await self.database.pool.fetch("SELECT what FROM orders ORDER BY what")]

    async def kept(self) -> int:
        return int(await self.database.pool.fetchval("SELECT count(*) FROM idempotency_keys"))


def client_of(shop: Shop) -> httpx.AsyncClient:
    """Call `shop`; who calls is taken from the header X-Caller, nobody without it."""

    async def guard(scope: Scope, path: str) -> None:
        headers = dict(scope["headers"])
        scope["state"]["address"] = headers.get(b"x-address", b"203.0.113.7").decode()
        if b"x-caller" in headers:
            scope["state"]["asker"] = ("client", headers[b"x-caller"].decode(), False)
            scope["state"]["asker_may"] = headers.get(b"x-may", b"everything").decode().split()

    app = FastAPI()
    app.state.guard = guard
    install_error_handlers(app)
    app.include_router(shop.router())
    transport = httpx.ASGITransport(RequestContext(app, EdgeLoad(), SecurityHeaders()), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test", headers={"X-Caller": "billing"})


@pytest.fixture
async def shop(database: Database) -> Shop:
    await database.pool.execute("CREATE TABLE orders (what text)")
    return Shop(database)


@pytest.fixture
async def client(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(shop) as client:
        yield client


class Pause:
    """Holds up a change until it is let go on."""

    def __init__(self) -> None:
        self.is_reached = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def __call__(self, connection: Connection) -> None:
        self.is_reached.set()
        await self.may_go_on.wait()


async def break_connection(connection: Connection) -> None:
    """Have the server end the session, as a failover does."""
    await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")


class TestWithoutKey:
    async def test_each_request_is_done(self, shop: Shop, client: httpx.AsyncClient) -> None:
        first, second = [await client.post("/orders", content="tea") for _ in range(2)]
        assert (first.text, second.text) == ("secret 1", "secret 2")
        assert "x-idempotent-replayed" not in second.headers
        assert await shop.orders() == ["tea", "tea"]
        assert await shop.kept() == 0

    async def test_an_error_undoes_the_change(self, shop: Shop, client: httpx.AsyncClient) -> None:
        async def fail(connection: Connection) -> None:
            raise ConflictError("sold out")

        shop.work = fail
        refused(await client.post("/orders", content="tea"), 409, "sms.conflict")
        assert await shop.orders() == []

    async def test_what_may_have_been_done_is_not_done_again(self, shop: Shop, client: httpx.AsyncClient) -> None:
        await _break_first_commit(shop.database)
        error = refused(await client.post("/orders", content="tea"), 503, "sms.unavailable")
        assert "Idempotency-Key" in error["message"]
        assert shop.calls == 1


class TestRepetition:
    async def test_gets_the_same_answer_and_changes_nothing(self, shop: Shop, client: httpx.AsyncClient) -> None:
        first = await client.post("/orders?shop=1", content="tea", headers=KEY)
        again = await client.post("/orders?shop=1", content="tea", headers=KEY)
        assert first.status_code == again.status_code == 201
        assert first.content == again.content == b"secret 1"
        assert "x-idempotent-replayed" not in first.headers
        assert again.headers["x-idempotent-replayed"] == "true"
        for name in ("location", "content-type", "content-length"):
            assert again.headers[name] == first.headers[name]
        assert again.headers["x-request-id"] != first.headers["x-request-id"]
        assert await shop.orders() == ["tea"]
        assert shop.calls == 1

    async def test_gets_the_same_answer_from_every_instance(
        self, shop: Shop, client: httpx.AsyncClient, database_url: DatabaseUrl, settings: Settings
    ) -> None:
        await client.post("/orders", content="tea", headers=KEY)
        async with AsyncExitStack() as stack:
            database = Database(database_url, settings)
            await database.open()
            stack.push_async_callback(database.close)
            other = await stack.enter_async_context(client_of(Shop(database)))
            again = await other.post("/orders", content="tea", headers=KEY)
        assert again.text == "secret 1"
        assert again.headers["x-idempotent-replayed"] == "true"

    @pytest.mark.parametrize(
        ("method", "target", "body"),
        [
            ("POST", "/orders", "coffee"),
            ("POST", "/orders", ""),
            ("POST", "/orders?shop=1", "tea"),
            ("POST", "/returns", "tea"),
            ("PATCH", "/orders", "tea"),
        ],
    )
    async def test_another_request_with_the_same_key_is_refused(
        self, shop: Shop, client: httpx.AsyncClient, method: str, target: str, body: str
    ) -> None:
        await client.post("/orders", content="tea", headers=KEY)
        answer = await client.request(method, target, content=body, headers=KEY)
        refused(answer, 422, "sms.idempotency_conflict")
        assert await shop.orders() == ["tea"]
        again = await client.post("/orders", content="tea", headers=KEY)
        assert again.headers["x-idempotent-replayed"] == "true"

    async def test_key_of_another_client_is_another_key(self, shop: Shop, client: httpx.AsyncClient) -> None:
        await client.post("/orders", content="tea", headers=KEY)
        other = await client.post("/orders", content="tea", headers=KEY | {"X-Caller": "campaigns"})
        assert other.text == "secret 2"
        assert await shop.orders() == ["tea", "tea"]

    async def test_whoever_is_allowed_something_else_gets_no_kept_answer_and_changes_nothing(
        self, shop: Shop, client: httpx.AsyncClient
    ) -> None:
        """It may hold what only the first was allowed to ask for; and doing it again would do it twice."""
        await client.post("/orders", content="tea", headers=KEY)
        other = await client.post("/orders", content="tea", headers=KEY | {"X-May": "order"})
        refused(other, 422, "sms.idempotency_conflict")
        assert await shop.orders() == ["tea"]

    async def test_on_open_routes_an_address_and_a_route_have_keys_of_their_own(self, shop: Shop) -> None:
        async with client_of(shop) as client:
            del client.headers["X-Caller"]
            await client.post("/orders", content="tea", headers=KEY)
            assert (await client.post("/orders", content="tea", headers=KEY)).text == "secret 1"
            elsewhere = KEY | {"X-Address": "203.0.113.8"}
            assert (await client.post("/orders", content="tea", headers=elsewhere)).text == "secret 2"
            assert (await client.post("/returns", content="tea", headers=KEY)).text == "secret 3"

    async def test_key_that_is_none_is_named(self, shop: Shop, client: httpx.AsyncClient) -> None:
        answer = await client.post("/orders", content="tea", headers={"Idempotency-Key": "not a key"})
        refused(answer, 400, "sms.validation_error", "Idempotency-Key")
        assert shop.calls == 0

    async def test_an_error_can_be_repeated(self, shop: Shop, client: httpx.AsyncClient) -> None:
        async def fail(connection: Connection) -> None:
            raise ConflictError("sold out")

        shop.work = fail
        refused(await client.post("/orders", content="tea", headers=KEY), 409, "sms.conflict")
        assert (await shop.orders(), await shop.kept()) == ([], 0)
        shop.work = None
        again = await client.post("/orders", content="tea", headers=KEY)
        assert again.status_code == 201
        assert "x-idempotent-replayed" not in again.headers

    async def test_an_answer_that_is_an_error_keeps_its_change_but_not_the_key(
        self, shop: Shop, client: httpx.AsyncClient
    ) -> None:
        shop.status = 401
        await client.post("/orders", content="tea", headers=KEY)
        assert (await shop.orders(), await shop.kept()) == (["tea"], 0)

    async def test_an_answer_without_body_is_repeated(self, shop: Shop, client: httpx.AsyncClient) -> None:
        shop.status = 204
        for _ in range(2):
            answer = await client.post("/orders", content="tea", headers=KEY)
            assert answer.status_code == 204
        assert answer.headers["x-idempotent-replayed"] == "true"


class TestKeeping:
    async def test_the_database_holds_neither_key_nor_request_nor_answer(
        self, shop: Shop, client: httpx.AsyncClient
    ) -> None:
        await client.post("/orders", content="a password", headers=KEY)
        row = await shop.database.pool.fetchrow("SELECT * FROM idempotency_keys")
        everything = b"".join(value if isinstance(value, bytes) else str(value).encode() for value in row.values())
        for secret in (b"secret", b"password", b"billing", KEY["Idempotency-Key"].encode()):
            assert secret not in everything

    async def test_the_same_request_under_two_keys_leaves_nothing_in_common(
        self, shop: Shop, client: httpx.AsyncClient
    ) -> None:
        """A digest of the request alone would let whoever reads the table try passwords."""
        for key in ("one", "two"):
            await client.post("/orders", content="tea", headers={"Idempotency-Key": key})
        rows = await shop.database.pool.fetch("SELECT digest, request_digest, answer FROM idempotency_keys")
        assert len({value for row in rows for value in row.values()}) == 6

    async def test_an_answer_moved_to_another_row_opens_for_nobody(self, shop: Shop, client: httpx.AsyncClient) -> None:
        for key in ("one", "two"):
            await client.post("/orders", content="tea", headers={"Idempotency-Key": key})
        await shop.database.pool.execute(
            "UPDATE idempotency_keys AS k SET answer = o.answer FROM idempotency_keys AS o WHERE o.digest <> k.digest"
        )
        answer = await client.post("/orders", content="tea", headers={"Idempotency-Key": "one"})
        refused(answer, 422, "sms.idempotency_conflict")

    @pytest.mark.parametrize("hours", [24, 48])
    async def test_answers_are_kept_as_long_as_the_setting_says(
        self, shop: Shop, database: Database, hours: int
    ) -> None:
        async with client_of(Shop(database, keep_hours=hours)) as client:
            await client.post("/orders", content="tea", headers=KEY)
        row = await database.pool.fetchrow("SELECT expires_at - created_at AS kept FROM idempotency_keys")
        assert row["kept"] == timedelta(hours=hours)

    async def test_what_is_over_can_be_asked_for_again(self, shop: Shop, client: httpx.AsyncClient) -> None:
        await client.post("/orders", content="tea", headers=KEY)
        await shop.database.pool.execute(
            "UPDATE idempotency_keys SET created_at = now() - interval '25 hours', expires_at = now()"
        )
        second = await client.post("/orders", content="coffee", headers=KEY)
        assert "x-idempotent-replayed" not in second.headers
        again = await client.post("/orders", content="coffee", headers=KEY)
        assert again.text == second.text == "secret 2"
        assert await shop.kept() == 1
        kept = await shop.database.pool.fetchval("SELECT expires_at - created_at FROM idempotency_keys")
        assert kept == timedelta(hours=24)


class TestTwin:
    async def test_is_refused_while_the_first_runs_and_answered_after_it(
        self, shop: Shop, client: httpx.AsyncClient, database_url: DatabaseUrl, settings: Settings
    ) -> None:
        shop.work = pause = Pause()
        first = asyncio.create_task(client.post("/orders", content="tea", headers=KEY))
        await pause.is_reached.wait()
        async with AsyncExitStack() as stack:
            database = Database(database_url, settings)
            await database.open()
            stack.push_async_callback(database.close)
            elsewhere = await stack.enter_async_context(client_of(Shop(database)))
            for each in (client, elsewhere):
                twin = await each.post("/orders", content="tea", headers=KEY)
                refused(twin, 409, "sms.request_running")
                assert twin.headers["retry-after"] == "1"
            pause.may_go_on.set()
            assert (await first).status_code == 201
            after = await elsewhere.post("/orders", content="tea", headers=KEY)
        assert after.headers["x-idempotent-replayed"] == "true"
        assert await shop.orders() == ["tea"]

    async def test_is_recognised_behind_a_transaction_pooler(
        self, shop: Shop, database_url: DatabaseUrl, settings: Settings
    ) -> None:
        """The pooler has two connections to the server for all: a lock that outlived its transaction would show."""
        async with AsyncExitStack() as stack:
            pooler = await stack.enter_async_context(pooler_for(database_url))
            database = Database(through(pooler, database_url), settings)
            await database.open()
            stack.push_async_callback(database.close)
            pooled = Shop(database)
            client = await stack.enter_async_context(client_of(pooled))
            pooled.work = pause = Pause()
            first = asyncio.create_task(client.post("/orders", content="tea", headers=KEY))
            await pause.is_reached.wait()
            refused(await client.post("/orders", content="tea", headers=KEY), 409, "sms.request_running")
            pause.may_go_on.set()
            assert (await first).status_code == 201
            for _ in range(3):
                again = await client.post("/orders", content="tea", headers=KEY)
                assert again.headers["x-idempotent-replayed"] == "true"
        assert await shop.orders() == ["tea"]

    async def test_other_keys_do_not_wait(self, shop: Shop, client: httpx.AsyncClient) -> None:
        shop.work = pause = Pause()
        first = asyncio.create_task(client.post("/orders", content="tea", headers=KEY))
        await pause.is_reached.wait()
        shop.work = None
        assert (await client.post("/orders", content="tea", headers={"Idempotency-Key": "other"})).status_code == 201
        assert (await client.post("/orders", content="tea")).status_code == 201
        pause.may_go_on.set()
        assert (await first).status_code == 201

    async def test_of_many_at_once_one_is_done(self, shop: Shop, client: httpx.AsyncClient) -> None:
        answers = await asyncio.gather(*(client.post("/orders", content="tea", headers=KEY) for _ in range(20)))
        assert {each.status_code for each in answers} <= {201, 409}
        done = [each for each in answers if each.status_code == 201]
        assert {each.text for each in done} == {"secret 1"}
        assert sum("x-idempotent-replayed" not in each.headers for each in done) == 1
        assert await shop.orders() == ["tea"]


class TestCrash:
    async def test_a_connection_that_breaks_in_between_costs_nothing(
        self, shop: Shop, client: httpx.AsyncClient
    ) -> None:
        async def break_once(connection: Connection) -> None:
            if shop.calls == 1:
                await break_connection(connection)

        shop.work = break_once
        answer = await client.post("/orders", content="tea", headers=KEY)
        assert answer.status_code == 201
        assert (await shop.orders(), shop.calls) == (["tea"], 2)

    async def test_a_crash_in_between_leaves_no_half_used_key(self, shop: Shop, client: httpx.AsyncClient) -> None:
        shop.work = break_connection
        refused(await client.post("/orders", content="tea", headers=KEY), 503, "sms.unavailable")
        assert (await shop.orders(), await shop.kept()) == ([], 0)
        shop.work = None
        again = await client.post("/orders", content="tea", headers=KEY)
        assert again.status_code == 201
        assert "x-idempotent-replayed" not in again.headers
        assert await shop.orders() == ["tea"]

    async def test_a_process_that_dies_frees_the_key_with_its_connection(
        self, shop: Shop, client: httpx.AsyncClient
    ) -> None:
        """What the server sees of kill -9: the connection is gone before the commit."""
        pids: list[int] = []
        pause = Pause()

        async def work(connection: Connection) -> None:
            pids.append(connection.get_server_pid())
            await pause(connection)

        shop.work = work
        first = asyncio.create_task(client.post("/orders", content="tea", headers=KEY))
        await pause.is_reached.wait()
        shop.work = None
        await shop.database.pool.execute("SELECT pg_terminate_backend($1, 10000)", pids[0])
        second = await client.post("/orders", content="tea", headers=KEY)
        assert second.status_code == 201
        pause.may_go_on.set()
        assert (await first).text == second.text
        assert await shop.orders() == ["tea"]

    async def test_a_commit_that_fails_keeps_no_answer(self, shop: Shop, client: httpx.AsyncClient) -> None:
        await shop.database.pool.execute(
            """
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'check_violation'; END $$;
            CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION refuse()
            """
        )
        refused(await client.post("/orders", content="tea", headers=KEY), 500, "sms.internal_error")
        assert (await shop.orders(), await shop.kept()) == ([], 0)
        await shop.database.pool.execute("DROP TRIGGER refuse ON orders")
        assert (await client.post("/orders", content="tea", headers=KEY)).status_code == 201

    async def test_a_commit_of_unknown_fate_is_looked_up_with_a_key(
        self, shop: Shop, client: httpx.AsyncClient
    ) -> None:
        await _break_first_commit(shop.database)
        assert (await client.post("/orders", content="tea", headers=KEY)).status_code == 201
        assert await shop.orders() == ["tea"]

    async def test_a_caller_that_goes_away_leaves_all_or_nothing(self, shop: Shop, client: httpx.AsyncClient) -> None:
        shop.work = pause = Pause()
        request = asyncio.create_task(client.post("/orders", content="tea", headers=KEY))
        await pause.is_reached.wait()
        request.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await request
        assert (await shop.orders(), await shop.kept()) == ([], 0)
        shop.work = None
        assert (await client.post("/orders", content="tea", headers=KEY)).status_code == 201


class TestLostRace:
    async def test_two_changes_that_lock_each_other_out_are_both_done_once(
        self, shop: Shop, client: httpx.AsyncClient
    ) -> None:
        pool = shop.database.pool
        await pool.execute("CREATE TABLE shelves (id int PRIMARY KEY); INSERT INTO shelves VALUES (1), (2)")
        both_hold_one = asyncio.Barrier(2)
        order = iter([(1, 2), (2, 1)])

        async def lock_both(connection: Connection) -> None:
            first, second = next(order, (1, 2))
            await connection.execute("SELECT FROM shelves WHERE id = $1 FOR UPDATE", first)
            if shop.calls <= 2:
                await both_hold_one.wait()
            await connection.execute("SELECT FROM shelves WHERE id = $1 FOR UPDATE", second)

        shop.work = lock_both
        answers = await asyncio.gather(
            *(client.post("/orders", content=what, headers={"Idempotency-Key": what}) for what in ("coffee", "tea"))
        )
        assert [each.status_code for each in answers] == [201, 201]
        assert await shop.orders() == ["coffee", "tea"]
        assert shop.calls == 3

    async def test_what_fails_for_another_reason_is_tried_once(self, shop: Shop, client: httpx.AsyncClient) -> None:
        async def divide(connection: Connection) -> None:
            await connection.execute("SELECT 1/0")

        shop.work = divide
        refused(await client.post("/orders", content="tea", headers=KEY), 500, "sms.internal_error")
        assert shop.calls == 1


async def _break_first_commit(database: Database) -> None:
    """Have the server go away in the middle of the first COMMIT; nobody can tell what became of it."""
    await database.pool.execute(
        """
        CREATE SEQUENCE commits;
        CREATE FUNCTION go_away() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('commits') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
            RETURN NULL;
        END $$;
        CREATE CONSTRAINT TRIGGER go_away AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION go_away()
        """
    )

"""Nothing of a request is looked at before its guard has let it pass."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel
from starlette.types import Scope

from sms_foundation.core.errors import UnauthorizedError
from sms_foundation.core.web.context import EdgeLoad, RequestContext
from sms_foundation.core.web.errors import install_error_handlers
from sms_foundation.core.web.guarded import GuardedRoute, declared_routes
from sms_foundation.core.web.security_headers import SecurityHeaders


class Thing(BaseModel):
    size: int


class Guard:
    """Refuses everybody until told otherwise; remembers what it was asked about."""

    def __init__(self) -> None:
        self.is_open = False
        self.asked: list[tuple[str, str]] = []

    async def __call__(self, scope: Scope, path: str) -> None:
        self.asked.append((scope["method"], path))
        if not self.is_open:
            raise UnauthorizedError("who are you?")


@pytest.fixture
def guard() -> Guard:
    return Guard()


def things() -> APIRouter:
    router = APIRouter(prefix="/things", route_class=GuardedRoute)

    @router.post("/{name}")
    async def make(name: str, thing: Thing) -> dict[str, int | str]:
        return {"name": name, "size": thing.size}

    return router


@pytest.fixture
async def client(guard: Guard) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.state.guard = guard
    install_error_handlers(app)
    app.include_router(things())
    transport = httpx.ASGITransport(RequestContext(app, EdgeLoad(), SecurityHeaders()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


class TestGuardedRoute:
    @pytest.mark.parametrize("body", [b'{"size": 1}', b"no json", b'{"size": "x"}', b""])
    async def test_the_guard_is_asked_before_the_body_is_read(
        self, client: httpx.AsyncClient, guard: Guard, body: bytes
    ) -> None:
        response = await client.post("/things/box", content=body)

        assert response.status_code == 401
        assert response.json()["error"]["message"] == "who are you?"
        assert guard.asked == [("POST", "/things/{name}")]

    async def test_what_the_guard_lets_pass_is_answered(self, client: httpx.AsyncClient, guard: Guard) -> None:
        guard.is_open = True

        response = await client.post("/things/box", json={"size": 3})

        assert response.json() == {"name": "box", "size": 3}

    async def test_a_method_the_route_does_not_have_is_nothing_to_guard(
        self, client: httpx.AsyncClient, guard: Guard
    ) -> None:
        assert (await client.delete("/things/box")).status_code == 405
        assert guard.asked == []

    async def test_an_application_without_a_guard_answers_nobody(self) -> None:
        app = FastAPI()
        install_error_handlers(app)
        app.include_router(things())
        transport = httpx.ASGITransport(RequestContext(app, EdgeLoad(), SecurityHeaders()), raise_app_exceptions=False)

        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.post("/things/box", json={"size": 3})).status_code == 500


class TestDeclaredRoutes:
    def test_are_every_method_and_template(self) -> None:
        assert declared_routes(things()) == {("POST", "/things/{name}")}

    def test_a_route_without_a_guard_is_a_mistake(self) -> None:
        router = APIRouter()

        @router.get("/open")
        async def answer() -> None: ...

        with pytest.raises(TypeError, match="/open"):
            declared_routes(router)

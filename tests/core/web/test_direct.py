"""Endpoints in front of FastAPI answer like those behind it."""

import pytest
from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.types import Scope

from sms_foundation.core.web.direct import direct_routes
from tests.support.service import Service


async def let_pass(_scope: Scope, _path: str) -> None:
    """A guard that asks for nothing."""


SENDS = ["/v1/sms/send", "/sms/send"]


class TestDirectRoutes:
    @pytest.mark.parametrize("path", SENDS)
    async def test_other_methods_are_refused_and_the_right_one_named(self, service: Service, path: str) -> None:
        response = await service.client.put(path)

        assert (response.status_code, response.headers["allow"]) == (405, "POST")
        assert response.json()["error"]["code"] == "sms.method_not_allowed"

    @pytest.mark.parametrize("path", SENDS)
    async def test_refusals_leave_in_the_envelope(self, service: Service, path: str) -> None:
        response = await service.client.post(path, content=b"{")

        assert (response.status_code, response.json()["error"]["code"]) == (422, "sms.malformed_request")
        assert response.json()["error"]["request_id"] == response.headers["x-request-id"]

    @pytest.mark.parametrize("path", SENDS)
    async def test_stand_in_the_api_document(self, service: Service, path: str) -> None:
        document = (await service.client.get("/openapi.json")).json()

        assert document["paths"][path]["post"]["responses"]["202"]

    def test_path_that_the_router_does_not_have_is_a_mistake(self) -> None:
        router = APIRouter()

        @router.get("/here")
        async def here(_: Request) -> Response:
            return Response()

        with pytest.raises(ValueError, match="/there"):
            direct_routes(router, ["/here", "/there"], let_pass)

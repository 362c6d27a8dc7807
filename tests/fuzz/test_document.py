"""Requests made from the API document itself, right ones and wrong ones: nothing fails, and every answer is declared.

The document is the service's own, so this holds the two together in both directions: what the service answers must be
in the document, and what the document allows must not upset the service. Every kind of caller asks for everything.
"""

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from requests import Session
from sms_foundation.app import create_app
from sms_foundation.core.db import Database, DatabaseUrl
from tests.fuzz.budget import FACTOR, examples
from tests.fuzz.world import WHO, World, make_world, world_settings
from tests.support.http_server import serving
from tests.support.service import Service

_DECLARED = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
_HASHES_PASSWORDS = frozenset({"/auth/login", "/auth/register", "/users/me/password"})
_REFUSED = (401, 403)
_USUAL = {"admin": 2}
"""Examples of each operation and kind of data; for whoever may less, fewer tell as much."""


@dataclass(frozen=True)
class Target:
    """A running service, what it knows, and who calls it."""

    base_url: str
    document: dict[str, Any]
    world: World
    who: str

    def call(self, case: Case, session: Session) -> None:
        """Make the request, and hold the answer against the document."""
        response = case.call(base_url=self.base_url, session=session, headers=dict(self.world.headers[self.who]))
        assert response.status_code < 500, case.as_curl_command()
        case.validate_response(response, checks=_DECLARED)
        if self.who == "nobody" and case.operation.definition.raw.get("x-permission"):
            assert response.status_code in _REFUSED, case.as_curl_command()

    def operations(self) -> Iterator[APIOperation]:
        for result in schemathesis.openapi.from_dict(self.document).get_all_operations():
            yield result.ok()


def make_sense(case: Case, data: st.DataObject, world: World) -> None:
    """Give parameters and fields values that mean something to the service, more often than not."""
    case.headers.pop("Prefer", None)  # would wait for a provider
    for place in (case.path_parameters, case.query, case.headers, case.body):
        if isinstance(place, MutableMapping):
            for name in list(place):
                if name in world.known and data.draw(st.integers(0, 3)):
                    place[name] = data.draw(st.sampled_from(world.known[name]))
    if isinstance(case.body, dict) and data.draw(st.booleans()):  # of what is left, too much is wrong at once
        case.body = {name: value for name, value in case.body.items() if name in world.known}


def attack(target: Target, operation: APIOperation, mode: GenerationMode, session: Session) -> None:
    """Make some requests to one operation, of data as the document has it, or not as it has it."""
    usual = 1 if operation.path in _HASHES_PASSWORDS else _USUAL.get(target.who, 1)

    @settings(
        max_examples=examples(usual),
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def run(case: Case, data: st.DataObject) -> None:
        make_sense(case, data, target.world)
        target.call(case, session)

    run()


def modes(operation: APIOperation) -> Iterator[GenerationMode]:
    """Yield what data can be made for an operation: without parameters and body, nothing can be wrong."""
    yield GenerationMode.POSITIVE
    raw: Mapping[str, Any] = operation.definition.raw
    if raw.get("parameters") or "requestBody" in raw:
        yield GenerationMode.NEGATIVE


def attack_everything(target: Target) -> None:
    with Session() as session:
        for operation in target.operations():
            possible = list(modes(operation))
            # Most of the time goes into preparing an operation's data: one sort of it each is enough with every run.
            for mode in possible if target.who == "admin" or FACTOR > 1 else [random.choice(possible)]:
                attack(target, operation, mode, session)


async def with_target(url: DatabaseUrl, database: Database, who: str, work: Callable[[Target], None]) -> None:
    """Run the service over HTTP, and `work` in a thread beside it."""
    app = create_app(world_settings(), url)
    async with serving(app) as server:
        base_url = f"http://127.0.0.1:{server.port}"
        async with httpx.AsyncClient(base_url=base_url) as client:
            world = await make_world(Service(client, world_settings(), database, app))
            document = (await client.get("/openapi.json")).json()
        await asyncio.to_thread(work, Target(base_url, document, world, who))


class TestDocument:
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    @pytest.mark.parametrize("who", WHO)
    async def test_whatever_is_asked_by_whomever_nothing_fails_and_every_answer_is_declared(
        self, database_url: DatabaseUrl, database: Database, who: str
    ) -> None:
        await with_target(database_url, database, who, attack_everything)

    async def test_what_the_document_does_not_say_is_found(self, database_url: DatabaseUrl, database: Database) -> None:
        def attack_a_liar(target: Target) -> None:
            schema = target.document["components"]["schemas"]["MeAnswer"]
            schema["properties"]["client_id"] = {"type": "integer"}
            operation = next(each for each in target.operations() if each.path == "/users/me")
            with Session() as session, pytest.raises(BaseExceptionGroup) as found:
                attack(target, operation, GenerationMode.POSITIVE, session)
            assert "violates schema" in str(found.value.exceptions)

        await with_target(database_url, database, "viewer", attack_a_liar)

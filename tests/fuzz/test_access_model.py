"""Keys and tokens are made, used, revoked, rotated and disabled in any order, against a model of who may still call."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import urlencode

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sms_foundation.auth.tokens.private_keys import generate_signing_key
from sms_foundation.core.config import Settings
from tests.fuzz.bridge import Bridge, run_machine
from tests.support.access import make_client, make_key
from tests.support.service import Service, make_settings

_PEM = generate_signing_key().pem
_numbers = count()


@pytest.fixture
def settings() -> Settings:
    return make_settings(open_access=False, work_in_process=False, failure_limit="off", signing_key=_PEM)


@dataclass
class Key:
    """A key as it should be."""

    id: str
    text: str
    client: str
    is_over: bool = False
    is_rotated: bool = False
    tokens: list[str] = field(default_factory=list)


def machine(  # noqa: C901  # its rules
    bridge: Bridge, admin: str
) -> Callable[[], RuleBasedStateMachine]:
    """Return the class of a machine that manages access with the key `admin`."""

    class Access(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.clients: dict[str, bool] = {}  # whether they are enabled
            self.keys: list[Key] = []
            self.made: dict[str, tuple[dict[str, str], Key]] = {}  # by Idempotency-Key

        def admin(self, method: str, path: str, json: object = None, name: str | None = None) -> "tuple[int, dict]":
            response = bridge.call(method, path, json, key=admin, name=name)
            return response.status_code, response.json()

        @rule()
        def create_client(self) -> None:
            name = f"service-{next(_numbers)}"
            status, shown = self.admin("POST", "/v1/clients", {"id": name, "roles": ["viewer"]})
            assert (status, shown["id"]) == (201, name)
            self.clients[name] = True

        @precondition(lambda self: self.clients)
        @rule(data=st.data(), is_named=st.booleans(), are_two=st.booleans())
        def create_key(self, data: st.DataObject, is_named: bool, are_two: bool) -> None:
            client = data.draw(st.sampled_from(sorted(self.clients)))
            body = {"client_id": client, "name": f"key {next(_numbers)}"}
            name = f"name-{next(_numbers)}" if is_named else None
            if not (are_two and is_named):
                answers = [bridge.call("POST", "/v1/keys", body, key=admin, name=name)]
            else:
                answers = bridge.call_twice("POST", "/v1/keys", body, key=admin, name=name)
                # Its twin is still running, or was answered the same.
                answers = [
                    each for each in answers if each.json().get("error", {}).get("code") != "sms.request_running"
                ]
            assert len({each.content for each in answers}) <= 1 or not self.clients[client]
            if not self.clients[client]:
                assert {each.status_code for each in answers} == {409}
                return
            shown = answers[0].json()
            assert answers[0].status_code == 201, shown
            self.keys.append(Key(shown["id"], shown["key"], client))
            if name is not None:
                self.made[name] = (body, self.keys[-1])

        @precondition(lambda self: self.made)
        @rule(data=st.data(), is_same=st.booleans())
        def repeat_creation(self, data: st.DataObject, is_same: bool) -> None:
            name = data.draw(st.sampled_from(sorted(self.made)))
            body, key = self.made[name]
            status, shown = self.admin("POST", "/v1/keys", body if is_same else {**body, "name": "other"}, name)
            assert (status, shown["key"]) == (201, key.text) if is_same else status == 422

        @precondition(lambda self: self.keys)
        @rule(data=st.data())
        def revoke(self, data: st.DataObject) -> None:
            key = data.draw(st.sampled_from(self.keys))
            status, shown = self.admin("POST", f"/v1/keys/{key.id}/revoke")
            assert (status, shown["state"]) == (200, "revoked")
            key.is_over = True

        @precondition(lambda self: self.keys)
        @rule(data=st.data(), grace_s=st.sampled_from([None, 0, 3600]))
        def rotate(self, data: st.DataObject, grace_s: int | None) -> None:
            key = data.draw(st.sampled_from(self.keys))
            status, shown = self.admin(
                "POST", f"/v1/keys/{key.id}/rotate", None if grace_s is None else {"grace_s": grace_s}
            )
            if key.is_over or key.is_rotated or not self.clients[key.client]:
                assert status == 409
                return
            assert (status, shown["replaces"]) == (201, key.id)
            key.is_rotated = True
            key.is_over = grace_s == 0
            self.keys.append(Key(shown["id"], shown["key"], key.client))

        @precondition(lambda self: self.clients)
        @rule(data=st.data(), is_enabled=st.booleans())
        def switch(self, data: st.DataObject, is_enabled: bool) -> None:
            client = data.draw(st.sampled_from(sorted(self.clients)))
            status, shown = self.admin("POST", f"/v1/clients/{client}/{'enable' if is_enabled else 'disable'}")
            assert (status, shown["disabled_at"] is None) == (200, is_enabled)
            self.clients[client] = is_enabled

        @precondition(lambda self: self.keys)
        @rule(data=st.data())
        def make_token(self, data: st.DataObject) -> None:
            key = data.draw(st.sampled_from(self.keys))
            form = urlencode({"grant_type": "client_credentials", "client_id": key.client, "client_secret": key.text})
            response = bridge.wait(
                bridge._client.post(
                    "/auth/token", content=form, headers={"Content-Type": "application/x-www-form-urlencoded"}
                )
            )
            assert response.status_code == (200 if self.may_call(key) else 401), response.text
            if response.status_code == 200:
                key.tokens.append(response.json()["access_token"])

        def may_call(self, key: Key) -> bool:
            return self.clients[key.client] and not key.is_over

        @invariant()
        def exactly_those_who_may_call_are_answered(self) -> None:
            for key in self.keys[-4:]:
                for credential in (key.text, *key.tokens[-1:]):
                    response = bridge.call("GET", "/users/me", key=credential)
                    assert response.status_code == (200 if self.may_call(key) else 401), key
                    assert response.status_code == 401 or response.json()["client_id"] == key.client

    return Access


class TestAccess:
    async def test_whoever_may_call_can_and_nobody_else_whatever_happened_before(self, service: Service) -> None:
        await make_client(service.database, "the-admin")
        admin = await make_key(service.database, "the-admin")
        bridge = Bridge(service.client, asyncio.get_running_loop())

        await run_machine(machine(bridge, admin), usual=12)

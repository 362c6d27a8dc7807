"""A service with something in it, and callers with every role, for requests that nobody has thought of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sms_foundation.auth.tokens.private_keys import generate_signing_key
from sms_foundation.core.config import LOCAL_PHONE_NUMBER, Settings
from sms_foundation.core.web.pagination import encode_cursor
from tests.support.access import bearer, make_client, make_key
from tests.support.access_api import Caller
from tests.support.service import TENANT_PHONE, Service, make_settings

WHO = ("nobody", "viewer", "operator", "admin", "few_scopes", "test_key")
"""Every kind of caller."""
_SIGNING_KEY = generate_signing_key().pem
_SIDS = ["SM" + f"{number:032d}" for number in range(8)]
_SCOPES = ["messages:send", "operations:read"]
Known = Mapping[str, Sequence[object]]
"""Values that mean something here, by the name of the parameter."""


def world_settings() -> Settings:
    """Nobody is let in without credentials; nothing is sent, and no limit stands between a request and its route."""
    return make_settings(
        open_access=False,
        work_in_process=False,
        failure_limit="off",
        login_limit="off",
        operations_networks="none",
        signing_key=_SIGNING_KEY,
    )


@dataclass(frozen=True)
class World:
    """What requests find: the credentials of each caller, and values that mean something."""

    headers: Mapping[str, Mapping[str, str]]
    known: Known


async def make_world(service: Service) -> World:
    """Fill a new service."""
    headers: dict[str, Mapping[str, str]] = {"nobody": {}}
    for role in ("viewer", "operator", "admin"):
        await make_client(service.database, f"the-{role}", roles=[role])
        headers[role] = bearer(await make_key(service.database, f"the-{role}"))
    headers["few_scopes"] = bearer(await make_key(service.database, "the-admin", scopes=_SCOPES))
    headers["test_key"] = bearer(await make_key(service.database, "the-admin", is_test=True))
    admin = Caller(service.client, headers["admin"]["Authorization"].removeprefix("Bearer "))
    return World(headers, await _fill(service, admin))


async def _fill(service: Service, admin: Caller) -> Known:
    for number, sid in enumerate(_SIDS):
        assert (await service.text(sid, f"text {number}", sender=f"+1415555{number % 3:04d}")).status_code == 200
    send = {"to": TENANT_PHONE, "message": "Your plumber comes at 10."}
    sent = [(await admin.do("POST", "/v1/sms/send", send, status=202))["request_id"] for _ in range(6)]
    await admin.do("POST", f"/v1/sms/{sent[0]}/cancel")
    await admin.do("POST", "/v1/clients", {"id": "a-service", "roles": ["viewer"]}, status=201)
    keys = [
        await admin.do("POST", "/v1/keys", {"client_id": "a-service", "name": f"key {number}"}, status=201)
        for number in range(4)
    ]
    await admin.do("POST", "/v1/number-rules", {"prefix": "+1900", "is_allowed": False})
    await admin.do("PUT", "/v1/roles/a-role", {"permissions": ["messages:read"]})
    invitation = await admin.do(
        "POST", "/v1/invitations", {"email": "ana@example.com", "roles": ["viewer"]}, status=201
    )
    messages = (await admin.get("/v1/sms"))["messages"]
    return {
        "request_id": [each["request_id"] for each in messages],
        "id": [*sent, *_SIDS],
        "phone_number": [TENANT_PHONE, "+14155550001", "14155550000"],
        "number": [TENANT_PHONE, "+14155550001"],
        "client_id": ["a-service", "the-viewer"],
        "key_id": [each["id"] for each in keys],
        "name": ["a-role", "viewer"],
        "prefix": ["+1900"],
        "invitation_id": [invitation["id"]],
        "cursor": [encode_cursor(2), encode_cursor(sent[0]), encode_cursor("", keys[0]["id"]), encode_cursor("a")],
        "since": ["2026-11-20T09:30:00Z"],
        "until": ["2026-11-20T09:30:00-05:00", "9999-12-31T23:59:59Z"],
        "to": [TENANT_PHONE, "415 555 0001", "+19005550000"],
        "message": ["Your plumber comes at 10.", "¡Hola! 🙂" * 99],
        "messages": [[send, {**send, "idempotency_key": "a"}, {**send, "idempotency_key": "a", "to": "1"}, None]],
        "send_at": ["2027-03-01T09:30:00Z"],
        "sender_id": [None, LOCAL_PHONE_NUMBER],
        "provider": [None, "twilio"],
        "media_urls": [[], ["https://example.com/a.jpg"]],
        "conversation_id": [None],
        "expires_at": [None],
        "roles": [["viewer"], ["a-role"]],
        "scopes": [None, ["messages:read"]],
        "email": ["ana@example.com", "bo@example.com"],
        "Idempotency-Key": ["a", "b"],
    }

"""Making, showing, replacing and revoking API keys. Every change needs a transaction, which gets its audit row."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from sms_foundation.auth.audit.log import Action, record
from sms_foundation.auth.clients.service import Client, get_client
from sms_foundation.auth.keys import repository
from sms_foundation.auth.keys.format import NewKey, generate_key
from sms_foundation.auth.keys.schemas import KeyBody, RotateBody
from sms_foundation.auth.keys.states import ApiKey
from sms_foundation.auth.permissions import BEYOND_TEST, Permissions, known_permissions
from sms_foundation.auth.roles.granting import Grantor
from sms_foundation.auth.roles.service import permissions_of
from sms_foundation.core.clock import utc_now
from sms_foundation.core.db import Connection
from sms_foundation.core.errors import ConflictError, NotFoundError, ValidationError
from sms_foundation.core.ids import new_id

list_keys = repository.list_keys


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A key just made; `text` is the key itself, for its owner, this once."""

    key: ApiKey
    text: str = field(repr=False)


async def get_key(connection: Connection, key_id: UUID, *, locks: bool = False) -> ApiKey:
    """Return a key; `locks` it until the transaction ends. Raises NotFoundError."""
    key = await repository.find_key(connection, key_id, locks=locks)
    if key is None:
        raise NotFoundError("no key with this id")
    return key


async def id_of_prefix(connection: Connection, prefix: str) -> UUID:
    """Return the id of the key with this visible part. Raises NotFoundError, which does not repeat it."""
    key_id = await repository.find_id_of_prefix(connection, prefix)
    if key_id is None:
        raise NotFoundError("no key has this prefix")
    return key_id


async def create_key(
    connection: Connection, grantor: Grantor, asked: KeyBody, *, new: NewKey | None = None
) -> CreatedKey:
    """Make a key. `new`: one that exists already, to be stored as it is.

    Raises ValidationError for a client there is not, scopes the client has not, or an end that is past; ForbiddenError
    when the key would allow more than the grantor is allowed; ConflictError for a disabled client.
    """
    try:
        client = await get_client(connection, asked.client_id)
    except NotFoundError as error:
        raise ValidationError.of_field("client_id", error.message) from None
    _check_end(asked.expires_at)
    granted = await permissions_of(connection, client.roles)
    if asked.scopes is not None and (beyond := sorted({*asked.scopes} - granted)):
        raise ValidationError.of_field("scopes", f"the client itself is not allowed {', '.join(beyond)}")
    new = new or generate_key(is_test=asked.is_test)
    key = ApiKey(
        id=new_id(),
        client_id=client.id,
        name=asked.name,
        prefix=new.prefix,
        is_test=asked.is_test,
        scopes=None if asked.scopes is None else tuple(sorted({*asked.scopes})),
        networks=tuple(asked.networks),
        created_at=utc_now(),
        expires_at=asked.expires_at,
    )
    _check_handing_out(grantor, client, key, granted)
    await repository.insert_key(connection, key, new.digest)
    details = {"is_test": key.is_test, "scopes": key.scopes, "networks": key.networks, "expires_at": key.expires_at}
    await _record(connection, grantor, Action.KEY_CREATE, key, details)
    return CreatedKey(key, new.text)


async def revoke_key(connection: Connection, grantor: Grantor, key_id: UUID) -> ApiKey:
    """Accept a key no more, on every instance within 5 s; also one that was rotated and is still good for a while.

    Repeating it changes nothing. Raises NotFoundError, ForbiddenError when its client is allowed more than the grantor.
    """
    key, now = await get_key(connection, key_id, locks=True), utc_now()
    if key.state(now) == "revoked":
        return key
    client = await get_client(connection, key.client_id)
    grantor.check_over(await permissions_of(connection, client.roles))
    await repository.revoke_key(connection, key_id, now)
    await _record(connection, grantor, Action.KEY_REVOKE, key)
    return replace(key, revoked_at=now)


async def rotate_key(connection: Connection, grantor: Grantor, key_id: UUID, how: RotateBody) -> CreatedKey:
    """Make a key like another one, which stays valid for `how.grace_s` longer.

    The new one ends at `how.expires_at`, or else after as long as was given to the old one. Raises NotFoundError;
    ConflictError for a key that is over or was rotated before, or a disabled client; ForbiddenError when it allows more
    than the grantor is allowed; ValidationError for an end that is past.
    """
    old, now = await get_key(connection, key_id, locks=True), utc_now()
    _check_can_be_rotated(old, now)
    _check_end(how.expires_at)
    client = await get_client(connection, old.client_id)
    new = generate_key(is_test=old.is_test)
    key = replace(
        old,
        id=new_id(),
        prefix=new.prefix,
        created_at=now,
        expires_at=how.expires_at or (None if old.expires_at is None else now + (old.expires_at - old.created_at)),
        last_used_at=None,
        replaces=old.id,
    )
    _check_handing_out(grantor, client, key, await permissions_of(connection, client.roles))
    await repository.insert_key(connection, key, new.digest)
    await repository.revoke_key(connection, old.id, now + timedelta(seconds=how.grace_s))
    details = {"replaced_by": str(key.id), "new_prefix": key.prefix, "grace_s": how.grace_s}
    await _record(connection, grantor, Action.KEY_ROTATE, old, details)
    return CreatedKey(key, new.text)


def _check_end(expires_at: datetime | None) -> None:
    if expires_at is not None and expires_at <= utc_now():
        raise ValidationError.of_field("expires_at", "is past")


def _check_can_be_rotated(key: ApiKey, now: datetime) -> None:
    if (state := key.state(now)) in ("revoked", "expired"):
        raise ConflictError(f"the key is {state}; create a new one")
    if key.revoked_at is not None:
        raise ConflictError("the key was rotated before; rotate the new one")


def _check_handing_out(grantor: Grantor, client: Client, key: ApiKey, granted: Permissions) -> None:
    """Whoever makes a key has it in hand, and with it all that it allows."""
    if client.disabled_at is not None:
        raise ConflictError("the client is disabled")
    if key.scopes is not None:
        granted &= known_permissions(key.scopes)
    grantor.check(granted - BEYOND_TEST if key.is_test else granted)


async def _record(
    connection: Connection,
    grantor: Grantor,
    action: Action,
    key: ApiKey,
    details: Mapping[str, object] | None = None,
) -> None:
    about = {"client": key.client_id, "prefix": key.prefix, **(details or {})}
    await record(connection, grantor.actor, action, target_kind="key", target=str(key.id), details=about)

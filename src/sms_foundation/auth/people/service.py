"""What people do: register, log in, stay logged in, log out, change their password.

Passwords are hashed and compared before the transaction begins, so that nobody holds a connection meanwhile; what came
of it is decided inside, under a lock.
"""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from uuid import UUID

from sms_foundation.auth.audit.log import Action, record
from sms_foundation.auth.people import accounts
from sms_foundation.auth.people.accounts import Account
from sms_foundation.auth.people.emails import find_email
from sms_foundation.auth.people.invitations import Invitation, find_invitation, use_invitation
from sms_foundation.auth.people.passwords import Passwords, Verdict, check_password
from sms_foundation.auth.people.secret_texts import SecretKind, find_digest
from sms_foundation.auth.people.sessions import (
    EndReason,
    KnownLogIn,
    Reused,
    Session,
    end_session,
    end_sessions,
    find_session,
    open_session,
    refresh_session,
)
from sms_foundation.auth.principal import Actor
from sms_foundation.auth.refusals import Reason, RefusedError
from sms_foundation.auth.roles.service import keep_a_manager
from sms_foundation.core.db import Connection, Database
from sms_foundation.core.errors import ValidationError


@dataclass(frozen=True, slots=True)
class Comparison:
    """Somebody's password, compared; `account` is None where there is nobody."""

    account: Account | None
    verdict: Verdict

    def accepted(self) -> Account:
        """Return whose password it is. Raises RefusedError."""
        if self.account is None:
            raise RefusedError(Reason.UNKNOWN_PERSON)
        if not self.verdict.is_right:
            raise RefusedError(Reason.WRONG_PASSWORD)
        if self.account.is_disabled:
            raise RefusedError(Reason.CLIENT_DISABLED)
        return self.account


@dataclass(frozen=True, slots=True)
class Acceptance:
    """An invitation, and the hash of the password that was chosen with it."""

    digest: bytes = field(repr=False)
    password_hash: str = field(repr=False)
    display_name: str | None


async def compare_password(database: Database, passwords: Passwords, *, email: str, password: str) -> Comparison:
    """Compare a password with that of the person with this address; takes as long where there is none."""
    canonical = find_email(email)
    account = None
    if canonical is not None:
        async with database.connection() as connection:
            account = await accounts.find_by_email(connection, canonical)
    return Comparison(account, await passwords.verify(password, None if account is None else account.password_hash))


async def log_in(connection: Connection, actor: Actor, compared: Comparison, *, lifetime: timedelta) -> Session:
    """Begin a log-in. Needs a transaction. Raises RefusedError."""
    account = await _lock(connection, compared)
    if compared.verdict.new_hash is not None:
        await accounts.set_password(connection, account.id, compared.verdict.new_hash)
    session = await open_session(connection, account.id, lifetime=lifetime)
    await _record(connection, actor, Action.PERSON_LOGIN, account.id, "password", session=str(session.id))
    return session


async def accept_invitation(
    database: Database, passwords: Passwords, *, invitation: str, password: str, display_name: str | None
) -> Acceptance:
    """Look at an invitation, and hash the password chosen with it.

    Raises RefusedError for what is no invitation, ValidationError for a password that is not good enough.
    """
    digest = find_digest(SecretKind.INVITATION, invitation)
    found: Invitation | None = None
    if digest is not None:
        async with database.connection() as connection:
            found = await find_invitation(connection, digest)
    if digest is None or found is None:
        raise RefusedError(Reason.UNKNOWN_INVITATION)
    _check_new_password(password, email=found.email, field_name="password")
    return Acceptance(digest, await passwords.hash(password), display_name)


async def register(connection: Connection, actor: Actor, accepted: Acceptance, *, lifetime: timedelta) -> Session:
    """Make an account of an invitation; or give the account of its address its password and roles, and end all
    log-ins. Needs a transaction; begins a log-in.

    Raises RefusedError, or ConflictError when it would leave nobody who may manage clients.
    """
    async with keep_a_manager(connection):
        invitation = await use_invitation(connection, accepted.digest)
        before = await accounts.lock_by_email(connection, invitation.email)
        if before is None:
            client_id = await accounts.add_person(
                connection,
                email=invitation.email,
                password_hash=accepted.password_hash,
                display_name=accepted.display_name,
                roles=invitation.roles,
            )
        else:
            client_id = await _reset(connection, before, invitation, accepted)
    session = await open_session(connection, client_id, lifetime=lifetime)
    await _record(
        connection,
        actor,
        Action.PERSON_REGISTER,
        client_id,
        "invitation",
        invitation=str(invitation.id),
        roles=list(invitation.roles),
        is_reset=before is not None,
        session=str(session.id),
    )
    return session


async def refresh(connection: Connection, actor: Actor, token: str, *, lifetime: timedelta) -> Session | Reused:
    """Go on with a log-in; see `sessions.refresh_session`. Needs a transaction. Raises RefusedError."""
    digest = find_digest(SecretKind.REFRESH, token)
    if digest is None:
        raise RefusedError(Reason.UNKNOWN_REFRESH)
    outcome = await refresh_session(connection, digest, lifetime=lifetime)
    if isinstance(outcome, Reused):
        await record(
            connection,
            replace(actor, client_id=outcome.client_id, credential="refresh token"),
            Action.SESSION_REUSE,
            target_kind="session",
            target=str(outcome.session_id),
        )
    return outcome


async def find_log_in(database: Database, which: UUID | str) -> KnownLogIn:
    """Return the log-in with this id, or of this refresh token, whatever became of it. Raises RefusedError."""
    wanted = which if isinstance(which, UUID) else find_digest(SecretKind.REFRESH, which)
    found: KnownLogIn | None = None
    if wanted is not None:
        async with database.connection() as connection:
            found = await find_session(connection, wanted)
    if found is None:
        raise RefusedError(Reason.UNKNOWN_REFRESH if isinstance(which, str) else Reason.SESSION_ENDED)
    return found


async def log_out(connection: Connection, actor: Actor, session_id: UUID) -> None:
    """End a log-in. Needs a transaction. Raises RefusedError for one that is over."""
    client_id = await end_session(connection, session_id, EndReason.LOGOUT)
    if client_id is None:
        raise RefusedError(Reason.SESSION_ENDED)
    await _record(connection, actor, Action.PERSON_LOGOUT, client_id, "own log-in", session=str(session_id))


async def change_password(
    connection: Connection, actor: Actor, compared: Comparison, new_hash: str, *, keep: UUID | None
) -> None:
    """Give a person another password, end their log-ins but for `keep`. Needs a transaction. Raises RefusedError."""
    account = await _lock(connection, compared)
    await accounts.set_password(connection, account.id, new_hash)
    await end_sessions(connection, account.id, EndReason.PASSWORD, but=keep)
    await record(connection, actor, Action.PERSON_PASSWORD, target_kind="client", target=account.id)


async def hash_new_password(passwords: Passwords, password: str, *, email: str) -> str:
    """Return the hash of a new password. Raises ValidationError of `new` for one that is not good enough."""
    _check_new_password(password, email=email, field_name="new")
    return await passwords.hash(password)


async def _lock(connection: Connection, compared: Comparison) -> Account:
    """Return the account if its password still is the one compared with, unchanged until the transaction ends."""
    account = compared.accepted()
    if not await accounts.lock_unchanged(connection, account.id, account.password_hash or ""):
        raise RefusedError(Reason.WRONG_PASSWORD)
    return account


async def _reset(connection: Connection, account: Account, invitation: Invitation, accepted: Acceptance) -> str:
    if account.is_disabled:
        raise RefusedError(Reason.CLIENT_DISABLED)
    await accounts.reset_person(
        connection,
        account.id,
        password_hash=accepted.password_hash,
        display_name=accepted.display_name,
        roles=invitation.roles,
    )
    await end_sessions(connection, account.id, EndReason.PASSWORD)
    return account.id


def _check_new_password(password: str, *, email: str, field_name: str) -> None:
    try:
        check_password(password, email=email)
    except ValueError as error:
        raise ValidationError.of_field(field_name, str(error)) from None


async def _record(
    connection: Connection, actor: Actor, action: Action, client_id: str, credential: str, **details: object
) -> None:
    """Write down what a person did who has shown by this very request who they are."""
    who = replace(actor, client_id=client_id, credential=credential)
    await record(connection, who, action, target_kind="client", target=client_id, details=details)

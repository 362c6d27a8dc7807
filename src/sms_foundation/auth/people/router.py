"""People over HTTP: /auth for logging in and out, /users/me for who they are."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import Response

from sms_foundation.auth.control import AccessControl
from sms_foundation.auth.gate import SessionToken
from sms_foundation.auth.people import accounts, service
from sms_foundation.auth.people.passwords import Passwords
from sms_foundation.auth.people.schemas import (
    LoginAnswer,
    LoginBody,
    LogoutBody,
    MeAnswer,
    PasswordBody,
    RefreshBody,
    RegisterBody,
)
from sms_foundation.auth.people.sessions import Reused, Session
from sms_foundation.auth.principal import Principal, actor_of, principal_of
from sms_foundation.auth.refusals import Reason, RefusedError
from sms_foundation.auth.refusing import refuse
from sms_foundation.auth.tokens.router import NO_STORE
from sms_foundation.core.db import Connection, Database
from sms_foundation.core.errors import ForbiddenError, UnauthorizedError
from sms_foundation.core.web.answers import json_response
from sms_foundation.core.web.bodies import describe_body, read_body, read_json
from sms_foundation.core.web.errors import ErrorEnvelope
from sms_foundation.core.web.guarded import GuardedRoute
from sms_foundation.core.web.once import Change, Once

_MAX_BODY_BYTES = 16 * 1024
_ERRORS: dict[int | str, dict[str, Any]] = {
    503: {"model": ErrorEnvelope, "description": "Nothing was done; ask again. `sms.not_configured`: no signing key"}
}
_POST_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorEnvelope, "description": "A field is wrong; `details.fields` names each"},
    413: {"model": ErrorEnvelope, "description": "The body is larger than anything that could be asked for"},
    422: {"model": ErrorEnvelope, "description": "The body is not JSON, or the Idempotency-Key means something else"},
}
_TOO_MANY = "Too many wrong credentials from this address"
_NOT_KNOWN: dict[int | str, dict[str, Any]] = {401: {"model": ErrorEnvelope, "description": "Who calls is not known"}}
_LOGIN_ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorEnvelope, "description": "Whatever was wrong with them: these are no valid credentials"},
    429: {"model": ErrorEnvelope, "description": "Too many tries, for this person or from this address"},
    **_POST_ERRORS,
}


@dataclass(frozen=True, slots=True)
class _Desk:
    """What all of these routes work with."""

    database: Database
    access: AccessControl
    once: Once
    passwords: Passwords
    log_in_lasts: timedelta

    async def guard(self, request: Request, work: Callable[[], Awaitable[Response]]) -> Response:
        """Do what tells right credentials from wrong ones; wrong ones are counted, and all get the same answer."""
        address: str = request.scope["state"]["address"]
        self.access.failures.check(address)
        try:
            return await work()
        except RefusedError as error:
            await refuse(self.access.failures, error.reason, address)

    async def end_log_ins(self, request: Request, change: Change) -> Response:
        """Run a change that ends log-ins, which this process then notices at once."""
        response = await self.once.run(request, change)
        self.access.directory.forget()
        return response

    async def show(self, session: Session, *, status_code: int = 200) -> Response:
        """Return a log-in as it is answered."""
        token = await self.access.token_issuer.for_session(session.client_id, session.id)
        answer = {
            "access_token": token.text,
            "token_type": "Bearer",
            "expires_in": token.expires_in_s,
            "refresh_token": session.refresh_token,
            "refresh_expires_at": session.expires_at,
            "client_id": session.client_id,
        }
        return json_response(answer, status_code=status_code, headers=NO_STORE)


def people_router(
    database: Database, access: AccessControl, once: Once, passwords: Passwords, *, log_in_lasts: timedelta
) -> APIRouter:
    """Return the routes of people; a log-in ends `log_in_lasts` after its last refresh."""
    router = APIRouter(tags=["people"], responses=_ERRORS, route_class=GuardedRoute)
    desk = _Desk(database, access, once, passwords, log_in_lasts)
    for add in (_add_register, _add_login, _add_refresh, _add_logout, _add_me, _add_password):
        add(router, desk)
    return router


def _add_register(router: APIRouter, desk: _Desk) -> None:
    @router.post(
        "/auth/register",
        status_code=201,
        response_model=LoginAnswer,
        responses={409: {"model": ErrorEnvelope, "description": "It would leave no admin"}, **_LOGIN_ERRORS},
        summary="Accept an invitation",
        openapi_extra=describe_body(RegisterBody),
    )
    async def register(request: Request) -> Response:
        """Make the account of an invitation, and log in. Where the address has an account, this is the way to a new
        password: it is set, the roles become the invitation's, and all log-ins end."""
        body = read_json(RegisterBody, await read_body(request, limit_bytes=_MAX_BODY_BYTES))
        await desk.access.token_issuer.prepare()

        async def work() -> Response:
            accepted = await service.accept_invitation(
                desk.database,
                desk.passwords,
                invitation=body.invitation,
                password=body.password,
                display_name=body.display_name,
            )

            async def change(connection: Connection) -> Response:
                session = await service.register(
                    connection, actor_of(request.scope), accepted, lifetime=desk.log_in_lasts
                )
                return await desk.show(session, status_code=201)

            return await desk.end_log_ins(request, change)

        return await desk.guard(request, work)


def _add_login(router: APIRouter, desk: _Desk) -> None:
    @router.post(
        "/auth/login",
        response_model=LoginAnswer,
        responses=_LOGIN_ERRORS,
        summary="Log in",
        openapi_extra=describe_body(LoginBody),
    )
    async def log_in(request: Request) -> Response:
        """Log in with address and password. Tries are counted for each person, right or wrong: those
        from one address, and with a limit ten times as high those from all."""
        body = read_json(LoginBody, await read_body(request, limit_bytes=_MAX_BODY_BYTES))
        await desk.access.token_issuer.prepare()

        async def work() -> Response:
            await desk.access.logins.admit(body.email, request.scope["state"]["address"])
            compared = await service.compare_password(
                desk.database, desk.passwords, email=body.email, password=body.password
            )

            async def change(connection: Connection) -> Response:
                actor = actor_of(request.scope)
                return await desk.show(await service.log_in(connection, actor, compared, lifetime=desk.log_in_lasts))

            return await desk.once.run(request, change)

        return await desk.guard(request, work)


def _add_refresh(router: APIRouter, desk: _Desk) -> None:
    @router.post(
        "/auth/refresh_token",
        response_model=LoginAnswer,
        responses=_LOGIN_ERRORS,
        summary="Go on with a log-in",
        openapi_extra=describe_body(RefreshBody),
    )
    async def refresh(request: Request) -> Response:
        """Spend a refresh token for new tokens. One that is spent already was copied by somebody: its log-in ends.

        Send an `Idempotency-Key` where an answer can get lost on its way: a repetition gets it again."""
        body = read_json(RefreshBody, await read_body(request, limit_bytes=_MAX_BODY_BYTES))
        await desk.access.token_issuer.prepare()
        return await desk.guard(request, partial(_refresh, request, desk, body.refresh_token))


async def _refresh(request: Request, desk: _Desk, token: str) -> Response:
    """Refresh, or end the log-in of a token that was spent. Raises RefusedError."""

    async def change(connection: Connection) -> Response:
        outcome = await service.refresh(connection, actor_of(request.scope), token, lifetime=desk.log_in_lasts)
        # Not raised: that the log-in is over has to be committed.
        return Response(status_code=401) if isinstance(outcome, Reused) else await desk.show(outcome)

    response = await desk.once.run(request, change)
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        desk.access.directory.forget()
        raise RefusedError(Reason.REFRESH_REUSED)
    return response


def _add_logout(router: APIRouter, desk: _Desk) -> None:
    @router.post(
        "/auth/logout",
        status_code=204,
        responses={429: {"model": ErrorEnvelope, "description": _TOO_MANY}, **_POST_ERRORS},
        summary="Log out",
        openapi_extra=describe_body(LogoutBody),
    )
    async def log_out(request: Request) -> Response:
        """End the log-in of a refresh token, or of the access token the request comes with. Repeating it, or doing it
        with what is not valid any more, changes nothing; such tokens are counted like other wrong credentials."""
        json = await read_body(request, limit_bytes=_MAX_BODY_BYTES)
        token = read_json(LogoutBody, json).refresh_token if json else None
        try:
            return await desk.guard(request, partial(_log_out, request, desk, token))
        except UnauthorizedError:
            return Response(status_code=204)  # there is no such log-in, which is what was asked for


async def _log_out(request: Request, desk: _Desk, refresh_token: str | None) -> Response:
    """End a log-in. Raises RefusedError where there is none, before anything is written: strangers come here too."""
    which = await _session_of(request, desk.access) if refresh_token is None else refresh_token
    found = await service.find_log_in(desk.database, which)
    if not found.is_open and not desk.once.is_named(request):
        raise RefusedError(Reason.SESSION_ENDED)

    async def change(connection: Connection) -> Response:
        await service.log_out(connection, actor_of(request.scope), found.id)
        return Response(status_code=204)

    response = await desk.once.run(request, change)
    desk.access.directory.forget_session(found.id)
    return response


def _add_me(router: APIRouter, desk: _Desk) -> None:
    @router.get("/users/me", response_model=MeAnswer, responses=_NOT_KNOWN, summary="Who calls")
    async def show_me(request: Request) -> Response:
        """Return who you are, and what you may with these credentials; for services as well."""
        principal = principal_of(request.scope)
        async with desk.database.connection() as connection:
            account = await accounts.find_account(connection, principal.client_id)
        return json_response(_show_me(principal, account))


def _add_password(router: APIRouter, desk: _Desk) -> None:
    @router.post(
        "/users/me/password",
        status_code=204,
        responses={403: {"model": ErrorEnvelope, "description": "Only people have passwords"}, **_LOGIN_ERRORS},
        summary="Change the password",
        openapi_extra=describe_body(PasswordBody),
    )
    async def change_password(request: Request) -> Response:
        """Set another password and end all other log-ins."""
        body = read_json(PasswordBody, await read_body(request, limit_bytes=_MAX_BODY_BYTES))
        principal = principal_of(request.scope)
        email = await _email_of(principal, desk.database)

        async def work() -> Response:
            await desk.access.logins.admit(email, request.scope["state"]["address"])
            compared = await service.compare_password(desk.database, desk.passwords, email=email, password=body.current)
            new_hash = await service.hash_new_password(desk.passwords, body.new, email=email)

            async def change(connection: Connection) -> Response:
                await service.change_password(
                    connection, actor_of(request.scope), compared, new_hash, keep=principal.session_id
                )
                return Response(status_code=204)

            return await desk.end_log_ins(request, change)

        return await desk.guard(request, work)


async def _email_of(principal: Principal, database: Database) -> str:
    """Return the address of the person who calls. Raises ForbiddenError for a service."""
    async with database.connection() as connection:
        account = await accounts.find_account(connection, principal.client_id)
    if account is None or account.email is None:
        raise ForbiddenError("only people have passwords")
    return account.email


async def _session_of(request: Request, access: AccessControl) -> UUID:
    """Return the log-in of the access token a request comes with. Raises RefusedError: it has none, or a wrong one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise RefusedError(Reason.MISSING)
    verified = await access.tokens.verify(token.strip())
    if not isinstance(verified, SessionToken):
        raise RefusedError(Reason.MISSING)  # right credentials, of somebody who never logged in
    return verified.session_id


def _show_me(principal: Principal, account: accounts.Account | None) -> dict[str, Any]:
    return {
        "client_id": principal.client_id,
        "kind": principal.kind,
        "display_name": None if account is None else account.display_name,
        "email": None if account is None else account.email,
        "roles": [] if account is None else list(account.roles),
        "permissions": sorted(principal.permissions),
        "credential": principal.credential,
        "is_test": principal.is_test,
        "created_at": None if account is None else account.created_at,
    }

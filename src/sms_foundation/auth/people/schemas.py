"""What people and those who invite them ask, and what they are answered."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sms_foundation.auth.people.emails import canonical_email
from sms_foundation.auth.people.invitations import InvitationState
from sms_foundation.auth.people.passwords import MAX_LENGTH, MIN_LENGTH
from sms_foundation.auth.principal import ClientKind
from sms_foundation.auth.roles.schemas import RoleNames, Text

# Longer than any that is accepted as a new one: what is typed in is compared, or refused with a reason, not cut off.
_Password = Annotated[str, Field(max_length=1024, description="The password", examples=["four words are enough"])]
_NewPassword = Annotated[_Password, Field(description=f"Of your choice: {MIN_LENGTH} to {MAX_LENGTH} characters")]
_Secret = Annotated[str, Field(max_length=255)]
Email = Annotated[str, Field(max_length=320, examples=["ana@example.com"]), AfterValidator(canonical_email)]


class _Body(BaseModel):
    # What was wrong is said without what was sent: it may be a password.
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class RegisterBody(_Body):
    """An invitation that is accepted."""

    invitation: _Secret = Field(description="As it was given to you", examples=["sf_invite_..."])
    password: _NewPassword
    display_name: Text | None = Field(None, description="Your name", examples=["Ana Díaz"])


class LoginBody(_Body):
    """Who logs in."""

    email: str = Field(max_length=320, description="Your address", examples=["ana@example.com"])
    password: _Password


class RefreshBody(_Body):
    """A log-in that goes on."""

    refresh_token: _Secret = Field(description="The last one; it works once", examples=["sf_refresh_..."])


class LogoutBody(_Body):
    """A log-in that ends."""

    refresh_token: _Secret | None = Field(
        None,
        description="Any of the log-in; left out: the one of the access token is ended",
        examples=["sf_refresh_..."],
    )


class PasswordBody(_Body):
    """Another password."""

    current: Annotated[_Password, Field(description="The one you have")]
    new: _NewPassword


class LoginAnswer(BaseModel):
    """A log-in: a token to call with, and one to go on with."""

    access_token: str = Field(
        description="Send it as `Authorization: Bearer ...`", examples=["eyJhbGciOiJSUzI1NiIs..."]
    )
    token_type: Literal["Bearer"] = Field(description="How it is sent", examples=["Bearer"])
    expires_in: int = Field(description="Seconds the access token is valid", examples=[900])
    refresh_token: str = Field(description="Brings the next two; works once", examples=["sf_refresh_..."])
    refresh_expires_at: datetime = Field(description="When the log-in ends by itself, if nothing is refreshed before")
    client_id: str = Field(description="Your account", examples=["person-4fj2k9x01abc"])


class MeAnswer(BaseModel):
    """Who calls, and what they may."""

    client_id: str = Field(description="Its id, for good", examples=["person-4fj2k9x01abc"])
    kind: ClientKind = Field(description="A calling service, or a person")
    display_name: str | None = Field(description="Its name, for people", examples=["Ana Díaz"])
    email: str | None = Field(description="A person's address", examples=["ana@example.com"])
    roles: list[str] = Field(description="Its roles", examples=[["viewer"]])
    permissions: list[str] = Field(description="With these credentials", examples=[["messages:read", "numbers:read"]])
    credential: str = Field(description="What was called with, without its secret", examples=["key sf_live_k3J9x2Qa"])
    is_test: bool = Field(description="What is sent goes to the simulated provider", examples=[False])
    created_at: datetime | None = Field(description="Since when it is known here")


class InvitationBody(_Body):
    """Somebody who should have an account, or should choose a new password for it."""

    email: Email = Field(description="Whose; they log in with it")
    roles: RoleNames | None = Field(
        None,
        description="What they will have, no more than you may yourself. May be left out for somebody who has an "
        "account: then they stay as they are",
        examples=[["viewer"]],
    )


class InvitationOut(BaseModel):
    """An invitation, without its secret."""

    id: UUID = Field(description="Its id; says nothing about the secret")
    email: str = Field(description="Who is invited", examples=["ana@example.com"])
    roles: list[str] = Field(description="What they will have", examples=[["viewer"]])
    state: InvitationState = Field(description="What has become of it")
    created_by: str = Field(description="Client that invited", examples=["admin"])
    created_at: datetime = Field(description="When it was made")
    expires_at: datetime = Field(description="Until when it can be accepted")
    used_at: datetime | None = Field(description="When it was accepted")
    revoked_at: datetime | None = Field(description="When it was revoked")


class NewInvitationOut(InvitationOut):
    """An invitation just made."""

    invitation: str = Field(description="Give it to the person; it is shown this once", examples=["sf_invite_..."])
    is_reset: bool = Field(
        description="There is an account: accepting sets its password and ends all its log-ins", examples=[False]
    )


class InvitationList(BaseModel):
    """A page of invitations."""

    invitations: list[InvitationOut] = Field(description="Newest first")
    limit: int = Field(description="Items per page", examples=[20])
    next_cursor: str | None = Field(
        description="Asks for the next page; null on the last", examples=["WyIwMTkzOGM3YS0i"]
    )

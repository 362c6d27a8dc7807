"""What is asked and answered about roles."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from sms_foundation.auth.permissions import Permission

Identifier = Annotated[str, StringConstraints(pattern="^[a-z0-9][a-z0-9._-]{0,63}$")]
"""How a role or a client is called: small letters, digits, dots, dashes and underscores, at most 64."""
Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""One line in somebody's own words."""
RoleNames = Annotated[list[Identifier], Field(min_length=1, max_length=20)]


class RoleBody(BaseModel):
    """A role of one's own, as it should be."""

    model_config = ConfigDict(extra="forbid")

    permissions: list[Permission] = Field(
        min_length=1, max_length=100, description="All that it allows", examples=[["messages:send", "messages:read"]]
    )
    description: Text = Field("", description="What it is for", examples=["the rent reminder"])


class RoleName(BaseModel):
    """What a role of one's own may be called."""

    name: Identifier


class RoleOut(BaseModel):
    """A role and what it allows."""

    name: str = Field(description="Its name", examples=["operator"])
    is_built_in: bool = Field(description="Built-in roles cannot be changed or deleted", examples=[True])
    permissions: list[str] = Field(description="What it allows, sorted", examples=[["messages:read", "numbers:read"]])
    description: str = Field(description="What it is for", examples=[""])


class PermissionOut(BaseModel):
    """One thing that can be allowed."""

    name: str = Field(description="As it stands in roles and in the scopes of keys", examples=["messages:send"])
    meaning: str = Field(description="In words", examples=["send messages"])


class RoleList(BaseModel):
    """All roles, and all permissions they can be made of."""

    roles: list[RoleOut] = Field(description="The built-in ones first, then by name")
    permissions: list[PermissionOut] = Field(description="Everything that can be allowed")

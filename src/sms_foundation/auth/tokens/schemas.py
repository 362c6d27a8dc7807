"""What is answered about tokens and keys."""

from typing import Literal

from pydantic import BaseModel, Field


class TokenAnswer(BaseModel):
    """A token, as RFC 6749 has it."""

    access_token: str = Field(
        description="Send it as `Authorization: Bearer ...`", examples=["eyJhbGciOiJSUzI1NiIs..."]
    )
    token_type: Literal["Bearer"] = Field(description="How it is sent", examples=["Bearer"])
    expires_in: int = Field(description="Seconds it is valid", examples=[900])
    scope: str = Field(description="What it may, with blanks between", examples=["messages:read messages:send"])


class PublishedKey(BaseModel):
    """The public half of a signing key (RFC 7517)."""

    kid: str = Field(
        description="Its name, in the header of what it signed: the RFC 7638 thumbprint",
        examples=["NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"],
    )
    kty: Literal["RSA"] = Field(description="What kind of key it is", examples=["RSA"])
    alg: Literal["RS256"] = Field(description="What it signs with", examples=["RS256"])
    use: Literal["sig"] = Field(description="What it is for: signatures", examples=["sig"])
    n: str = Field(description="Modulus, base64url", examples=["0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78..."])
    e: str = Field(description="Exponent, base64url", examples=["AQAB"])


class KeySetAnswer(BaseModel):
    """All keys whose signatures are accepted now, newest first."""

    keys: list[PublishedKey] = Field(description="Keep them for five minutes, and ask again for a `kid` that is new")

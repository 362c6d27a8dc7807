"""OUTSIDE_ISSUERS: whose tokens are believed besides our own, and what in them names the subject."""

from typing import Annotated, Any

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from sms_foundation.core.config import Settings
from sms_foundation.core.errors import StartupError

# Google signs the same account's tokens with either.
# Source: https://developers.google.com/identity/gsi/web/guides/verify-google-id-token (read November 2026)
_SPELLINGS = {"accounts.google.com": "https://accounts.google.com"}
_Text = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")]


def canonical_issuer(issuer: str) -> str:
    """Return the one spelling of an issuer under which its subjects are linked to clients."""
    return _SPELLINGS.get(issuer, issuer)


def canonical_subject(subject: str) -> str:
    """Return the one spelling under which a subject is linked and looked up: addresses of mail in small letters.

    Raises ValueError for an address with other letters than those of ASCII: some of them (the Kelvin sign) turn into
    one of its letters when they are made small, so that somebody else's address would become this one.
    """
    if "@" not in subject:
        return subject
    if not subject.isascii():
        raise ValueError("an address can have letters of ASCII only")
    return subject.lower()


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class OutsideIssuer(BaseModel):
    """One issuer. Its tokens are accepted when they name it, one of the audiences, and were signed by a key of its."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    issuer: _Text = Field(description="`iss` of its tokens, exactly")
    audience: Annotated[tuple[_Text, ...], BeforeValidator(_listed), Field(min_length=1)] = Field(
        description="`aud` of tokens that are for us, or a list of several"
    )
    jwks_url: Annotated[str, Field(pattern=r"^https?://[\x21-\x7e]+$")] = Field(description="Where its keys are")
    subject_claim: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.:/-]{0,99}$")] = Field(
        "sub", description="The claim that names the caller; `email` only counts with `email_verified`"
    )


_LIST = TypeAdapter(list[OutsideIssuer])


def own_issuer(settings: Settings) -> str:
    """Return `iss` of our own tokens."""
    return settings.token_issuer or settings.public_base_url or f"http://localhost:{settings.port}"


def outside_issuers(settings: Settings) -> dict[str, OutsideIssuer]:
    """Return the configured issuers by their canonical name.

    Raises StartupError: one line that names every field that is wrong.
    """
    if settings.outside_issuers is None:
        return {}
    try:
        issuers = _LIST.validate_python(orjson.loads(settings.outside_issuers))
    except orjson.JSONDecodeError:
        raise StartupError("OUTSIDE_ISSUERS is no JSON list") from None
    except ValidationError as error:
        raise StartupError(f"OUTSIDE_ISSUERS: {_explain(error)}") from None
    found = {canonical_issuer(each.issuer): each for each in issuers}
    if len(found) < len(issuers):
        raise StartupError("OUTSIDE_ISSUERS: issuer: one stands there twice; give it several audiences instead")
    if own_issuer(settings) in found:
        raise StartupError("OUTSIDE_ISSUERS: issuer: our own (TOKEN_ISSUER, or PUBLIC_BASE_URL) cannot be one of them")
    for index, each in enumerate(issuers):
        if not settings.is_local and not each.jwks_url.startswith("https://"):
            raise StartupError(f"OUTSIDE_ISSUERS: {index}.jwks_url: must start with https://")
    return found


def _explain(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, each['loc']))}: {each['msg']}" if each["loc"] else each["msg"] for each in error.errors()
    )

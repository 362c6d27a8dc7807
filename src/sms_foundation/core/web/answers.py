"""JSON answers written by hand, and times read by hand, for routes that do without FastAPI's models."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi.responses import Response

from sms_foundation.core.errors import ValidationError


def json_response(
    body: Mapping[str, Any], *, status_code: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Write one of our own shapes: validating it again would double its cost. Tests hold them against the schemas."""
    # `default`: asyncpg's UUIDs are a subclass that orjson does not take for one.
    content = orjson.dumps(body, option=orjson.OPT_UTC_Z, default=str)
    return Response(content, status_code=status_code, media_type="application/json", headers=dict(headers or {}))


def in_utc(at: datetime, *, field: str) -> datetime:
    """Return a parameter's time in UTC. Raises ValidationError that names `field` for one without a time zone."""
    if at.tzinfo is None:
        raise ValidationError.of_field(field, "needs a time zone, such as Z")
    try:
        return at.astimezone(UTC)
    except OverflowError:  # the first or last day of the calendar, elsewhere
        raise ValidationError.of_field(field, "is out of range") from None

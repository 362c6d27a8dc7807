"""Cursors for keyset paging: opaque to callers, cheap for the database at any depth."""

import base64
import binascii
from typing import Annotated

import orjson
from fastapi import Query

from sms_foundation.core.errors import ValidationError

Limit = Annotated[int, Query(ge=1, le=100, description="Items per page")]
Cursor = Annotated[
    str | None,
    Query(max_length=256, description="`next_cursor` of the page before; takes precedence over `page` and `offset`"),
]


def encode_cursor(*parts: int | str) -> str:
    """Pack the sort key of the last item of a page into an opaque, URL-safe text."""
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode().rstrip("=")


def decode_cursor(cursor: str, *types: type) -> list[int | str]:
    """Unpack what `encode_cursor` packed. Raises ValidationError unless it holds values of exactly these types."""
    try:
        parts = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        parts = None
    if not isinstance(parts, list) or [type(part) for part in parts] != list(types):
        raise ValidationError("the cursor is not one of ours", details={"field": "cursor"})
    return parts

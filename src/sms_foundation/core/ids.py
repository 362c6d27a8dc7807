"""Identifiers: UUIDv7, made here so that a row's id is known before it is written."""

from datetime import datetime
from uuid import UUID

import uuid_utils
from uuid_utils.compat import uuid7

NIL = UUID(int=0)


def new_id() -> UUID:
    """Return a new UUIDv7; ids sort by the millisecond in which they were made."""
    return uuid7()


def first_id_at(at: datetime, *, shift_ms: int = 0) -> UUID:
    """Return the lowest id that can have been made at a time, moved by `shift_ms`."""
    return UUID(int=max(int(at.timestamp() * 1000) + shift_ms, 0) << 80)


def new_request_id() -> str:
    """Return a new id for a request without one: the text of a UUIDv7."""
    return str(uuid_utils.uuid7())

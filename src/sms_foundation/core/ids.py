"""Identifiers: UUIDv7, made here so that a row's id is known before it is written."""

from uuid import UUID

from uuid_utils.compat import uuid7

NIL = UUID(int=0)


def new_id() -> UUID:
    """Return a new UUIDv7; ids sort by the millisecond in which they were made."""
    return uuid7()

"""The name a caller gives a request, so that repeating it does nothing twice."""

import re
from typing import Annotated

from pydantic import AfterValidator

_is_key = re.compile(r"[A-Za-z0-9._:/+=-]{1,255}").fullmatch


def _check_key(value: str) -> str:
    if not _is_key(value):
        raise ValueError("must be 1 to 255 letters, digits or . _ : / + = -")
    return value


IdempotencyKey = Annotated[str, AfterValidator(_check_key)]

"""Options of commands that stand for the fields of a request, and how moments and spans of time are written."""

import re
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import typer
from pydantic import BaseModel, ValidationError

from sms_foundation.core.errors import StartupError

Model = TypeVar("Model", bound=BaseModel)

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_is_span = re.compile(r"([1-9][0-9]{0,6})([smhd])").fullmatch


def read_options(model: type[Model], **values: object) -> Model:
    """Return what was given as a `model`, the same that the API takes. Raises StartupError that names what is wrong."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [
            f"{each['loc'][0] if each['loc'] else 'options'}: {each['msg'].removeprefix('Value error, ')}"
            for each in error.errors(include_url=False, include_input=False)
        ]
        raise StartupError("; ".join(dict.fromkeys(problems))) from None


def read_span(text: str, option: str, *, longest: timedelta, none_is_allowed: bool = False) -> timedelta:
    """Read a span such as 90m, 24h or 7d; `none_is_allowed`: also 0. Raises typer.BadParameter that names `option`."""
    if none_is_allowed and text.strip() == "0":
        return timedelta(0)
    found = _is_span(text.strip().lower())
    span = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else None
    if span is None or span > longest:
        also = ", or 0" if none_is_allowed else ""
        raise typer.BadParameter(f"write it as 90m, 24h or 7d{also}; {longest.days}d at most", param_hint=option)
    return span


def moment(at: datetime | None, *, never: str = "never") -> str:
    """Write a moment for people."""
    return never if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"

"""Logs: one JSON object a line (readable columns on a terminal); no content, no secret, no full phone number.

Code logs static event names with variables as keywords and masks numbers itself; the processors here are the net.
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from sms_foundation.core.clock import utc_now
from sms_foundation.core.phone import mask

SERVICE = "sms-foundation"
# The request being answered; "" outside of one. A variable of its own, because binding through structlog costs every
# webhook ten times as much.
request_id: ContextVar[str] = ContextVar("request_id", default="")

_SECRET_KEYS = frozenset(
    "body content message_content text token auth_token api_key authorization signature password secret dsn "
    "database_url raw raw_webhook_data".split()
)
# Made by ourselves, or masked already: looked at by nobody's regular expression.
_HARMLESS_KEYS = frozenset("timestamp request_id event service level route method outcome phone".split())
_NESTED = (dict, list, tuple, BaseException)
_NUMBERS = (int, float)
_number_like = re.compile(r"(?<![\w.+-])(?:\+\d{7,15}|\d{10,15})(?![\w-])|%2B\d{7,15}")


def configure_logging(*, level: str, log_format: str) -> None:
    """Set up structlog and the standard library's logging for this process; calling it again replaces the set-up."""
    is_console = log_format == "console" or (log_format == "auto" and sys.stdout.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_request_id,
        structlog.processors.add_log_level,
        _add_timestamp,
        _add_service,
        _explain_exception,
        _redact,
    ]
    renderer: Processor = structlog.dev.ConsoleRenderer() if is_console else _render_json
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory() if is_console else structlog.BytesLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, _tame_foreign_text, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _as_text(renderer)],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    # Every request has a line of its own already, with the route instead of the path.
    logging.getLogger("uvicorn.access").disabled = True
    for name in ("httpx", "httpcore", "alembic.runtime.plugins"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they log full URLs, numbers included


def _add_request_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if current := request_id.get():
        event.setdefault("request_id", current)
    return event


def _add_timestamp(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["timestamp"] = utc_now().isoformat()
    return event


def _add_service(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["service"] = SERVICE
    return event


def _explain_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Write an exception as its type and the places it came through; its text may quote a message and is left out."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    if isinstance(info, BaseException):
        info = (type(info), info, info.__traceback__)
    if isinstance(info, tuple) and info[0] is not None:
        event["error_type"] = info[0].__name__
        event["error_at"] = [
            f"{frame.filename.rpartition('site-packages/')[2]}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(info[2])[-12:]
        ]
    return event


def _tame_foreign_text(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Keep the first line of what a library says: asyncio, for one, goes on to quote the exception's text."""
    event["event"] = _mask_numbers(str(event["event"]).partition("\n")[0])
    return event


def _redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if key in _SECRET_KEYS:
            event[key] = "[redacted]"
        elif key in _HARMLESS_KEYS or isinstance(value, _NUMBERS):
            continue
        elif isinstance(value, str):
            if len(value) >= 8:
                event[key] = _mask_numbers(value)
        elif isinstance(value, _NESTED):
            event[key] = _redact_nested(value)
    return event


def _redact_nested(value: object) -> object:
    match value:
        case str():
            return _mask_numbers(value)
        case dict():
            return {
                str(key): "[redacted]" if str(key).lower() in _SECRET_KEYS else _redact_nested(each)
                for key, each in value.items()
            }
        case list() | tuple():
            return [_redact_nested(each) for each in value]
        case BaseException():
            return type(value).__name__
    return value


def _mask_numbers(text: str) -> str:
    return _number_like.sub(lambda match: mask(match[0]), text)


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    first = {"timestamp": event.pop("timestamp"), "level": event.pop("level"), "event": event.pop("event", "")}
    try:
        return orjson.dumps({**first, **event}, default=_describe)
    except TypeError:  # a lone surrogate, an integer of more than 64 bits: nothing is worth losing the line
        line = json.dumps({**first, **event}, default=_describe, skipkeys=True, ensure_ascii=False)
        return line.encode(errors="replace")


def _describe(value: object) -> str:
    return _mask_numbers(repr(value))


def _as_text(renderer: Processor) -> Callable[..., Any]:
    def render(logger: WrappedLogger, method: str, event: EventDict) -> str:
        line = renderer(logger, method, event)
        return line.decode() if isinstance(line, bytes) else str(line)

    return render

"""Logs: one JSON object a line (readable columns on a terminal); no content, no secret, no full phone number.

Code logs static event names with variables as keywords and masks numbers itself; the processors here are the net.
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from sms_foundation.core.clock import utc_now
from sms_foundation.core.phone import mask
from sms_foundation.core.printable import escape_unprintable
from sms_foundation.core.tracing.context import request_id, trace

SERVICE = "sms-foundation"

_SECRET_KEYS = frozenset(
    "body content message_content text token auth_token api_key authorization signature password secret dsn "
    "database_url raw raw_webhook_data".split()
)
# Made by ourselves, or masked already: looked at by nobody's regular expression.
_HARMLESS_KEYS = frozenset("timestamp request_id trace_id event service level route method outcome phone".split())
# What Google Cloud sorts and colours by, and finds by no other name; elsewhere one more short word. Its other fields
# stay away: `message` would say `event` once more, and the time at which a line arrives there is ours.
# Source: https://cloud.google.com/logging/docs/reference/v2/rest/v2/LogEntry#logseverity (November 2026)
_SEVERITIES = {level.lower(): level for level in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")}
_NESTED = (dict, list, tuple, BaseException)
_NUMBERS = (int, float)
_number_like = re.compile(r"(?<![\w.+-])(?:\+\d{7,15}|\d{10,15})(?![\w-])|%2B\d{7,15}")


def configure_logging(*, level: str, log_format: str, google_cloud_project: str | None = None) -> None:
    """Set up structlog and the standard library's logging for this process; calling it again replaces the set-up.

    With `google_cloud_project` lines name their trace also in the way that links them in Google Cloud.
    """
    is_console = log_format == "console" or (log_format == "auto" and sys.stdout.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_origin,
        structlog.processors.add_log_level,
        _add_timestamp,
        _add_service,
        _explain_exception,
        _redact,
        *([] if google_cloud_project is None else [_link_trace(google_cloud_project)]),
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
    # It warns of every `tracestate` it cannot read, and quotes it: anybody could write into the log what they like.
    logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)


def _add_origin(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if current := request_id.get():
        event.setdefault("request_id", current)
    if (context := trace.get()) is not None:
        event.setdefault("trace_id", context.trace_id)
    return event


def _link_trace(project: str) -> Processor:
    """Return what adds the trace under the name by which Cloud Logging shows a request, its lines and spans together.

    Source: https://cloud.google.com/logging/docs/structured-logging#structured_logging_special_fields (November 2026)
    """
    prefix = f"projects/{project}/traces/"

    def link(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        if (trace_id := event.get("trace_id")) is not None:
            event["logging.googleapis.com/trace"] = prefix + trace_id
            if (context := trace.get()) is not None and context.trace_id == trace_id:
                event["logging.googleapis.com/spanId"] = context.span_id
                event["logging.googleapis.com/trace_sampled"] = context.is_sampled
        return event

    return link


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
            event[key] = _make_harmless(value)
        elif isinstance(value, _NESTED):
            event[key] = _redact_nested(value)
    return event


def _redact_nested(value: object) -> object:
    match value:
        case str():
            return _make_harmless(value)
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


def _make_harmless(text: str) -> str:
    """Mask numbers, then escape what would steer the terminal of whoever reads the log; an escape hides no number."""
    return escape_unprintable(_mask_numbers(text) if len(text) >= 8 else text)


def _mask_numbers(text: str) -> str:
    return _number_like.sub(lambda match: mask(match[0]), text)


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    level = event.pop("level")
    first = {
        "timestamp": event.pop("timestamp"),
        "level": level,
        "severity": _SEVERITIES.get(level, "DEFAULT"),
        "event": event.pop("event", ""),
    }
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

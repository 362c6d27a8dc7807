"""Writes the log lines that `test_logging.py` reads: set-up is for a whole process, so it gets one of its own."""

import asyncio
import logging
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

import structlog

from sms_foundation.core.logging import configure_logging
from sms_foundation.core.tracing.context import TraceContext, request_id, trace

log = structlog.get_logger("child")


def main(log_format: str) -> None:
    configure_logging(level="INFO", log_format=log_format)
    log.info("plain", count=3, at=datetime(2026, 1, 2, tzinfo=UTC), id=uuid.UUID(int=1), folder=Path("x"))
    log.debug("too.quiet")
    structlog.contextvars.bind_contextvars(worker="one")
    request_id.set("req-1")
    before = trace.set(TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"))
    log.warning("in.a.request")
    log.warning("with.another.id", request_id="req-2")
    request_id.set("")
    trace.reset(before)
    structlog.contextvars.clear_contextvars()

    secrets = ("body", "content", "token", "auth_token", "api_key", "authorization", "signature", "password", "secret")
    log.info("secrets", **dict.fromkeys((*secrets, "text", "dsn", "database_url", "raw"), "s3cr3t"))
    log.info("nested", form={"Body": "s3cr3t", "From": "+14155550123", "items": [{"Authorization": "s3cr3t"}, 1]})
    for name, number in (
        ("e164", "texted from +14155550123."),
        ("short_e164", "+4512345"),
        ("bare", "GET /conversations/14155550123 HTTP/1.1"),
        ("encoded", "/conversations/%2B14155550123"),
        ("channel", "whatsapp:+14155550123"),
        ("several", "+14155550123,+5511912345678"),
    ):
        log.info("number", name=name, value=number)
    log.info("no.number", a="12345678", b="0190b1f2-3c4d-7e5f-8a9b-123456789012", c="SM" + "1" * 32, d="2026-11-20")
    log.info("masked.already", phone="***0123", twilio_sid="SM" + "0" * 32)

    try:
        _fail()
    except ValueError as error:
        log.exception("failed")
        log.warning("failed", exc_info=error)
        log.warning("failed.as.value", error=error)
        logging.getLogger("library").exception("failed")
    log.info("odd", surrogate="\udcff", big=2**70, keys={1: "a", ("b",): "c"}, bytes=b"\xff")

    logging.getLogger("library").warning("called %s", "+14155550123")
    logging.getLogger("library").debug("too quiet")
    logging.getLogger("httpx").info("HTTP Request: GET http://monitor/?phone=+14155550123")
    logging.getLogger("uvicorn.access").info("GET /conversations/+14155550123")
    logging.getLogger("uvicorn.error").info("Started server")
    asyncio.run(_forget_a_failure())
    configure_logging(level="ERROR", log_format=log_format)
    structlog.get_logger("again").error("set.up.again")
    structlog.get_logger("again").critical("worse")
    logging.getLogger("library").error("set.up.again")
    logging.addLevelName(15, "FINE")
    configure_logging(level="DEBUG", log_format=log_format, google_cloud_project="a-project")
    again = structlog.get_logger("with a project")
    again.debug("in.detail")
    logging.getLogger("library").log(15, "of a level of its own")
    trace.set(TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", True))
    again.info("in.a.trace")
    configure_logging(level="INFO", log_format=log_format)
    structlog.get_logger("elsewhere").info("in.a.trace.elsewhere")


def _fail() -> None:
    raise ValueError("s3cr3t text of +14155550123")


async def _forget_a_failure() -> None:
    """Let asyncio complain, in its own words, which hold the text of the exception."""

    async def fail() -> None:
        _fail()

    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task


main(sys.argv[1])

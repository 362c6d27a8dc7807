"""Rows as the sending API shows them."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import asyncpg
import orjson

from sms_foundation.core.errors import SmsFoundationError
from sms_foundation.core.smart_encoding import preview
from sms_foundation.core.work.queue import Priority
from sms_foundation.messaging.outbound.asked import Accepted
from sms_foundation.messaging.outbound.service import Progress
from sms_foundation.providers.base import MessageStatus


def show_accepted(accepted: Accepted, progress: Progress | None) -> dict[str, Any]:
    """Return the answer to a send; `progress` if its caller waited for that."""
    return {
        "request_id": accepted.message_id,
        "id": accepted.message_id,
        "status": MessageStatus.ACCEPTED if progress is None else progress.status,
        "created_at": accepted.created_at,
        "accepted_at": accepted.created_at,
        "conversation_id": accepted.conversation_id,
        "twilio_sid": None if progress is None else progress.provider_message_id,
        "num_segments": accepted.num_segments if progress is None else progress.num_segments,
        "encoding": accepted.encoding,
        "is_test": accepted.is_test,
    }


def show_batch(answers: Sequence[Accepted | SmsFoundationError]) -> dict[str, Any]:
    """Return what became of every message of a batch."""
    results = [_batch_item(index, answer) for index, answer in enumerate(answers)]
    accepted = sum(each["error"] is None for each in results)
    return {"accepted": accepted, "refused": len(results) - accepted, "results": results}


def _batch_item(index: int, answer: Accepted | SmsFoundationError) -> dict[str, Any]:
    if isinstance(answer, SmsFoundationError):
        error = {"code": answer.code, "message": answer.message, "details": answer.details}
        return {"index": index, "status": answer.status, "is_replay": False, "sms": None, "error": error}
    sms = show_accepted(answer, None)
    return {"index": index, "status": 202, "is_replay": answer.is_replay, "sms": sms, "error": None}


def show_preview(text: str) -> dict[str, Any]:
    """Return how `text` would be sent, before and after smart encoding."""
    found = preview(text)
    return {
        "encoding": found.encoding,
        "num_segments": found.segments,
        "forcing_ucs2": [
            {
                "character": each.character,
                "code_point": f"U+{ord(each.character):04X}",
                "count": each.count,
                "replacement": each.replacement,
            }
            for each in found.forcing
        ],
        "message_after": found.body_after,
        "encoding_after": found.encoding_after,
        "num_segments_after": found.segments_after,
    }


def show_summary(row: asyncpg.Record) -> dict[str, Any]:
    """Return a message without its history."""
    priority = row["priority"]
    return {
        "request_id": row["id"],
        "id": row["id"],
        "status": row["delivery_status"],
        "created_at": row["created_at"],
        "accepted_at": row["created_at"],
        "conversation_id": row["conversation_id"],
        "twilio_sid": row["provider_message_id"],
        "num_segments": row["num_segments"],
        "encoding": row["encoding"],
        "is_test": row["is_test"],
        "direction": row["direction"],
        "from_number": row["from_number"],
        "to_number": row["to_number"],
        "message": row["message_content"],
        "provider": row["provider"],
        "client_id": row["client_id"],
        "priority": None if priority is None else Priority(priority).name.lower(),
        "metadata": None if row["metadata"] is None else orjson.Fragment(row["metadata"]),
        "media_urls": [each["url"] for each in orjson.loads(row["media"])],
        "send_at": row["send_at"],
        "expires_at": row["expires_at"],
        "sent_at": row["sent_at"],
        "ended_at": row["ended_at"],
        "updated_at": row["updated_at"],
        "error_code": row["error_code"],
        "error_message": row["error_message"],
        "price": _price(row),
        "x_request_id": row["request_id"],
        "trace_id": row["trace_id"],
    }


def show_detail(
    row: asyncpg.Record, events: Sequence[asyncpg.Record], attempts: Sequence[asyncpg.Record]
) -> dict[str, Any]:
    """Return a message with everything that happened to it; its acceptance is the first event."""
    accepted = {"event_status": "accepted" if row["direction"] == "outbound" else "received"}
    first = {**dict.fromkeys(("provider", "error_code", "error_message")), **accepted, "created_at": row["created_at"]}
    return {
        **show_summary(row),
        "events": [first, *(_event(each) for each in events)],
        "attempts": [_attempt(each) for each in attempts],
    }


def _event(row: asyncpg.Record) -> dict[str, Any]:
    return {key: row[key] for key in ("event_status", "provider", "error_code", "error_message", "created_at")}


def _attempt(row: asyncpg.Record) -> dict[str, Any]:
    why = orjson.loads(row["reasons"])
    return {
        "number": row["number"],
        "provider": row["provider"],
        "sender": row["sender"],
        "outcome": row["outcome"],
        "started_at": row["started_at"],
        "finished_at": row["finished_at"],
        "latency_ms": row["latency_ms"],
        "twilio_sid": row["provider_message_id"],
        "error_kind": row["error_kind"],
        "error_code": row["error_code"],
        "error_message": row["error_message"],
        "http_status": row["http_status"],
        "reasons": why["reasons"],
        "weights": why["weights"],
    }


def _price(row: asyncpg.Record) -> dict[str, str] | None:
    if row["price_micros"] is None:
        return None
    amount = (Decimal(row["price_micros"]) / 1_000_000).normalize()
    return {"amount": f"{amount:f}", "currency": row["price_currency"]}

"""One walk over all work: what is dead, late, held by nobody or about nothing, and which messages have none."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg

from sms_foundation.auth.tidying import TIDY_ACCESS
from sms_foundation.doctor.context import Context
from sms_foundation.doctor.findings import Finding, Severity, Tally
from sms_foundation.doctor.limits import Limits
from sms_foundation.enrichment.jobs import LOOK_UP_CONVERSATION, RECONCILE, TELL_LANGUAGE
from sms_foundation.messaging.jobs import (
    MESSAGE_RECEIVED,
    RECEIPT_UNMATCHED,
    RECONCILE_MESSAGES,
    RELEASE_MESSAGE,
    SEND_MESSAGE,
    SEND_TEST_MESSAGE,
    TEND_PROVIDERS,
)

_ABOUT_MESSAGES: Final = (MESSAGE_RECEIVED, RELEASE_MESSAGE, SEND_MESSAGE, SEND_TEST_MESSAGE)
_RECURRING: Final = (RECONCILE, RECONCILE_MESSAGES, TEND_PROVIDERS, TIDY_ACCESS)
_SENDS: Final = (RELEASE_MESSAGE, SEND_MESSAGE, SEND_TEST_MESSAGE)
_MOST_LOOKED_INTO: Final = 5_000
_CHUNK: Final = 500

# Scalar queries, because EXISTS may be answered by reading all of the other table first.
_PAGE: Final = f"""
SELECT w.id, w.kind, w.ref_id, w.state, w.order_key IS NOT NULL AS is_ordered,
       extract(epoch FROM now() - w.run_at)::float8 AS late_s,
       extract(epoch FROM now() - w.lease_until)::float8 AS expired_s,
       CASE WHEN w.kind IN ({", ".join(f"'{kind}'" for kind in _ABOUT_MESSAGES)})
                THEN (SELECT 1 FROM sms_messages WHERE id = w.ref_id) = 1
            WHEN w.kind = '{RECEIPT_UNMATCHED}'
                THEN (SELECT 1 FROM sms_message_status_events WHERE id = w.ref_id) = 1
            WHEN w.kind = '{LOOK_UP_CONVERSATION}' THEN (SELECT 1 FROM sms_conversations WHERE id = w.ref_id) = 1
            WHEN w.kind = '{TELL_LANGUAGE}' THEN (SELECT 1 FROM sms_tenants WHERE id = w.ref_id) = 1
            WHEN w.kind IN ({", ".join(f"'{kind}'" for kind in _RECURRING)}) THEN true END IS TRUE AS is_about_something
FROM (SELECT * FROM work WHERE id > $1 ORDER BY id LIMIT $2) AS w
ORDER BY w.id
"""  # noqa: S608  # put together from constants only
_KINDS: Final = frozenset({*_ABOUT_MESSAGES, *_RECURRING, RECEIPT_UNMATCHED, LOOK_UP_CONVERSATION, TELL_LANGUAGE})

# Who stands first in the line of each of these, and whether somebody has it in hand.
_HEADS: Final = """
SELECT late.id, head.id AS head_id, head.is_held
FROM unnest($1::bigint[]) AS late(id)
    CROSS JOIN LATERAL (SELECT order_key FROM work WHERE id = late.id AND state = 'due' OFFSET 0) AS w
    CROSS JOIN LATERAL (
        SELECT id, coalesce(state = 'leased' AND lease_until > now(), false) AS is_held FROM work
        WHERE order_key = w.order_key AND state <> 'dead' ORDER BY order_key, id LIMIT 1) AS head
"""
_STILL_WAITING: Final = """
SELECT m.id FROM unnest($1::uuid[]) AS wanted(id)
    CROSS JOIN LATERAL (
        SELECT id FROM sms_messages
        WHERE id = wanted.id AND provider_message_id IS NULL
          AND delivery_status IN ('accepted', 'queued', 'sending', 'unknown')
          AND updated_at < $2 OFFSET 0) AS m
"""
_NOW: Final = "SELECT now()"


@dataclass(slots=True)
class _Walked:
    dead: Tally = field(default_factory=Tally)
    dead_kinds: dict[str, int] = field(default_factory=dict)
    dead_tests: Tally = field(default_factory=Tally)
    expired: Tally = field(default_factory=Tally)
    about_nothing: Tally = field(default_factory=Tally)
    unknown_kind: Tally = field(default_factory=Tally)
    overdue: Tally = field(default_factory=Tally)
    overdue_ages: dict[str, int] = field(default_factory=dict)
    in_lines: list[int] = field(default_factory=list)
    stuck: Tally = field(default_factory=Tally)


async def check_work(context: Context, waiting: set[UUID]) -> list[Finding]:
    """Look at all work. `waiting`: messages, seen before this begins, that need a row; it is emptied."""
    walked, seen = _Walked(), 0
    ((started_at,),) = await context.reader.fetch(_NOW)
    async for rows in context.reader.walk("work", _PAGE, (0,)):
        seen += len(rows)
        for row in rows:
            waiting.discard(row["ref_id"])
            _judge(row, walked, context.limits)
    context.report.looked_at["work"] = seen
    await _look_into_lines(context, walked)
    without = Tally()
    for chunk in _chunks(sorted(waiting)):
        # Whose work was done between the one look and the other has changed since.
        for row in await context.reader.fetch(_STILL_WAITING, chunk, started_at):
            without.add(row["id"])
    return [*_findings(walked), *_missing(without)]


def _judge(row: asyncpg.Record, walked: _Walked, limits: Limits) -> None:
    if row["kind"] not in _KINDS:
        walked.unknown_kind.add(row["id"])
    elif not row["is_about_something"]:
        walked.about_nothing.add(row["id"])
    match row["state"]:
        case "dead" if row["kind"] == SEND_TEST_MESSAGE:
            walked.dead_tests.add(row["id"])
        case "dead":
            walked.dead.add(row["id"])
            walked.dead_kinds[row["kind"]] = walked.dead_kinds.get(row["kind"], 0) + 1
        case "leased" if row["expired_s"] > limits.lease_over.total_seconds():
            walked.expired.add(row["id"])
        case "due":
            _judge_due(row, walked, limits)


def _judge_due(row: asyncpg.Record, walked: _Walked, limits: Limits) -> None:
    is_behind = row["is_ordered"] and row["late_s"] > limits.line_stuck.total_seconds()
    if is_behind and len(walked.in_lines) < _MOST_LOOKED_INTO:
        walked.in_lines.append(row["id"])
    limit = limits.sends_overdue if row["kind"] in _SENDS else limits.work_overdue
    if row["late_s"] > limit.total_seconds():
        walked.overdue.add(row["id"])
        age = _age(timedelta(seconds=row["late_s"]))
        walked.overdue_ages[age] = walked.overdue_ages.get(age, 0) + 1


def _age(late: timedelta) -> str:
    if late > timedelta(days=1):
        return "more than a day"
    return "up to a day" if late > timedelta(hours=1) else "up to an hour"


async def _look_into_lines(context: Context, walked: _Walked) -> None:
    heads: set[int] = set()
    for chunk in _chunks(walked.in_lines):
        for row in await context.reader.fetch(_HEADS, chunk):
            if row["head_id"] != row["id"] and not row["is_held"]:
                heads.add(row["head_id"])
    for head in sorted(heads):
        walked.stuck.add(head)


def _chunks(ids: Collection[object]) -> list[list[object]]:
    listed = list(ids)
    return [listed[start : start + _CHUNK] for start in range(0, len(listed), _CHUNK)]


def _missing(without: Tally) -> list[Finding]:
    return without.finding(
        "messages_without_work",
        why="these messages were accepted, and nothing will ever send them or find out what became of them",
        do="POST /v1/sms/ID/retry puts one that is unknown or failed back in line (was_not_sent, once you know); the "
        "others: POST /v1/sms/ID/cancel, and send them again; then find out who deletes rows of `work`",
    )


def _findings(walked: _Walked) -> list[Finding]:
    return [
        *walked.expired.finding(
            "leases_of_dead_workers",
            why="whoever held this work has died, and nobody has taken it over: no worker is alive",
            do="start `sms-foundation worker`, or `serve` with WORK_IN_PROCESS=true; its log says work.taken_over",
        ),
        *walked.dead.finding(
            "dead_work",
            why="it failed too often and waits for a person; a message behind it is not sent",
            do="`sms-foundation dead list` says why; mend the cause, then `sms-foundation dead replay ID`",
            details=walked.dead_kinds,
        ),
        *walked.dead_tests.finding(
            "dead_test_work",
            why="messages of test keys that were meant to fail, usually",
            do="`sms-foundation dead replay --kind send_test_message`, or leave it",
            severity=Severity.NOTICE,
        ),
        *walked.overdue.finding(
            "work_overdue",
            why="it should have been done by now: too few workers, none, or something they wait for",
            do="see that workers run; `sms-foundation providers` for sends (sms_messages_put_off_total says what they "
            "wait for), /health for the Collections Monitor",
            details=walked.overdue_ages,
        ),
        *walked.stuck.finding(
            "lines_stuck",
            why="messages wait behind this work, which has not come to an end for hours and is in nobody's hands",
            do="GET /v1/sms/ID of its message (`ref_id` in `work`) says why; POST /v1/sms/ID/cancel frees "
            "the line, STUCK_HEAD=skip:N lets others pass from now on",
        ),
        *walked.about_nothing.finding(
            "work_about_nothing",
            why="the row it is about is gone: somebody deletes rows by hand",
            do="find out who; the work itself ends as soon as a worker looks at it",
        ),
        *walked.unknown_kind.finding(
            "work_nobody_does",
            why="no process of this version runs this kind of work: it comes from another version",
            do="`sms-foundation --version` here and on the workers; deploy the newer one everywhere",
        ),
    ]

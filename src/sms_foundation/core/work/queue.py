"""The SQL of work rows: enqueue, claim, finish, retry, take over, inspect and replay.

Every function takes a connection and runs one statement, so it joins whatever transaction the caller is in. All times
come from the database's clock; processes need not agree on theirs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from uuid import UUID

from sms_foundation.core.db import Connection, rows_affected
from sms_foundation.core.tracing.context import NOWHERE, Origin, origin


class Priority(IntEnum):
    """Who goes first: everything urgent before anything normal, and that before bulk."""

    URGENT = 0
    NORMAL = 1
    BULK = 2


@dataclass(frozen=True, slots=True)
class Lane:
    """Rows of one kind and priority; `room` is how many of them may be claimed now."""

    kind: str
    priority: Priority
    room: int


@dataclass(frozen=True, slots=True)
class NewWork:
    """Work to be done: `kind` names the handler, `ref_id` what it is about.

    `delay` postpones it. Work with one `order_key` runs one after the other, oldest first. Of work with one
    `unique_key` only one open row exists; enqueueing another is a no-op. `cause` is what is current unless given.
    """

    kind: str
    ref_id: UUID
    delay: timedelta = timedelta(0)
    order_key: str | None = None
    unique_key: str | None = None
    priority: Priority = Priority.NORMAL
    cause: Origin | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """A leased row: ours until the lease runs out, finished only under its `lease_token`."""

    id: int
    kind: str
    ref_id: UUID
    attempts: int
    lease_token: UUID
    priority: Priority = Priority.NORMAL
    is_ordered: bool = False
    """Others may be waiting for this one: it has an order_key."""
    cause: Origin = NOWHERE
    """What it was enqueued in: the run, its log lines and its calls belong to the same trace."""


@dataclass(frozen=True, slots=True)
class DeadWork:
    """A row put aside after its last failure."""

    id: int
    kind: str
    ref_id: UUID
    attempts: int
    last_error: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Backlog:
    """Open work of one kind, of very much at least so much; see `backlog`.

    `oldest_due_s` is how long the oldest due row has been waiting, 0 when none is.
    """

    kind: str
    due: int
    scheduled: int
    leased: int
    dead: int
    oldest_due_s: float


# Ids are drawn before commits, so under concurrency a lower id can become visible later. Rows of one order_key are
# therefore inserted under a transaction lock on that key: among them, id order is commit order.
_LOCK_ORDER_KEYS = """
SELECT pg_advisory_xact_lock(hashtextextended(order_key, 7))
FROM (SELECT DISTINCT order_key FROM unnest($1::text[]) AS t(order_key) WHERE order_key IS NOT NULL ORDER BY 1) AS keys
"""

_ENQUEUE = """
INSERT INTO work (kind, ref_id, run_at, order_key, unique_key, priority, trace_context, request_id)
SELECT kind, ref_id, now() + delay, order_key, unique_key, priority, trace_context, request_id
FROM unnest($1::text[], $2::uuid[], $3::interval[], $4::text[], $5::text[], $6::int[], $7::text[], $8::text[])
     WITH ORDINALITY AS t(kind, ref_id, delay, order_key, unique_key, priority, trace_context, request_id, position)
ORDER BY position
ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL AND state <> 'dead' DO NOTHING
"""

# Lane by lane, each a range of ix_work_due: what waits in one lane costs the others nothing. The lanes are walked in
# the order given, and no further than the limit.
_CLAIM = """
WITH due AS (
    SELECT w.id
    FROM unnest($1::text[], $2::int[], $3::int[]) AS lane(kind, priority, room)
    CROSS JOIN LATERAL (
        SELECT w.id
        FROM work AS w
        WHERE w.state = 'due' AND w.kind = lane.kind AND w.priority = lane.priority AND w.run_at <= now()
          -- The head of its key, and none of the key running: a probe of an index each, whatever the planner believes
          -- about a table that is empty most of the time (a condition on "any older one" once read all of them).
          AND (w.order_key IS NULL OR (
              w.id = (SELECT head.id FROM work AS head
                      WHERE head.order_key = w.order_key AND head.state <> 'dead'
                      ORDER BY head.order_key, head.id LIMIT 1)
              AND NOT EXISTS (SELECT FROM work AS running
                              WHERE running.order_key = w.order_key AND running.state = 'leased' OFFSET 0)))
        ORDER BY w.run_at, w.id
        LIMIT lane.room
        FOR UPDATE SKIP LOCKED
    ) AS w
    LIMIT $4
)
UPDATE work AS w
SET state = 'leased', attempts = attempts + 1, lease_token = $5, lease_until = now() + $6
FROM due
WHERE w.id = due.id
RETURNING w.id, w.kind, w.ref_id, w.attempts, w.lease_token, w.priority, w.order_key IS NOT NULL, w.trace_context,
          w.request_id
"""

_FINISH = """
DELETE FROM work AS w
USING unnest($1::bigint[], $2::uuid[]) AS done(id, lease_token)
WHERE w.id = done.id AND w.lease_token = done.lease_token
RETURNING w.id
"""

_RESCHEDULE = """
UPDATE work
SET state = CASE WHEN $3::interval IS NULL THEN 'dead' ELSE 'due' END,
    run_at = now() + coalesce($3, interval '0'), attempts = least(attempts, $5), last_error = $4,
    lease_token = NULL, lease_until = NULL
WHERE id = $1 AND lease_token = $2
"""

_POSTPONE = """
UPDATE work AS w
SET state = 'due', attempts = attempts - 1, run_at = now() + held.delay, last_error = held.reason,
    lease_token = NULL, lease_until = NULL
FROM unnest($1::bigint[], $2::uuid[], $3::interval[], $4::text[]) AS held(id, lease_token, delay, reason)
WHERE w.id = held.id AND w.lease_token = held.lease_token
"""

_GIVE_BACK = """
UPDATE work AS w
SET state = 'due', attempts = attempts - 1, lease_token = NULL, lease_until = NULL
FROM unnest($1::bigint[], $2::uuid[]) AS held(id, lease_token)
WHERE w.id = held.id AND w.lease_token = held.lease_token
"""

_RELEASE = """
UPDATE work
SET state = 'due', attempts = attempts - 1, lease_token = NULL, lease_until = NULL
WHERE state = 'leased' AND lease_token = $1
"""

_TAKE_OVER = """
UPDATE work
SET state = CASE WHEN attempts >= $1 THEN 'dead' ELSE 'due' END,
    last_error = 'the process that ran it died or hung (lease expired)',
    lease_token = NULL, lease_until = NULL
WHERE id IN (
    SELECT id FROM work WHERE state = 'leased' AND lease_until < now() ORDER BY lease_until LIMIT 1000
    FOR UPDATE SKIP LOCKED)
"""

_NEXT_DUE = """
SELECT min(extract(epoch FROM w.run_at - now()))::float8
FROM unnest($1::text[], $2::int[]) AS lane(kind, priority)
CROSS JOIN LATERAL (
    SELECT run_at FROM work
    WHERE state = 'due' AND kind = lane.kind AND priority = lane.priority AND run_at > now()
    ORDER BY run_at LIMIT 1
) AS w
"""

# Every process is asked for this every few seconds, most of all when there is much of it: so it reads no more than the
# beginning of each index, however much there is. Lanes are found one by one, each by a single probe.
_BACKLOG = """
WITH RECURSIVE lane AS (
    (SELECT kind, priority FROM work WHERE state = 'due' ORDER BY kind, priority LIMIT 1)
    UNION ALL
    SELECT next.kind, next.priority FROM lane CROSS JOIN LATERAL (
        SELECT kind, priority FROM work
        WHERE state = 'due' AND (kind, priority) > (lane.kind, lane.priority) ORDER BY kind, priority LIMIT 1
    ) AS next
), counted AS (
    SELECT lane.kind, due.n AS due, scheduled.n AS scheduled, 0 AS leased, 0 AS dead, due.oldest
    FROM lane
    CROSS JOIN LATERAL (
        SELECT count(*) AS n, min(run_at) AS oldest FROM (
            SELECT run_at FROM work
            WHERE state = 'due' AND kind = lane.kind AND priority = lane.priority AND run_at <= now()
            ORDER BY run_at LIMIT $1) AS first
    ) AS due
    CROSS JOIN LATERAL (
        SELECT count(*) AS n FROM (
            SELECT FROM work
            WHERE state = 'due' AND kind = lane.kind AND priority = lane.priority AND run_at > now()
            ORDER BY run_at LIMIT $1) AS first
    ) AS scheduled
    UNION ALL
    SELECT kind, 0, 0, count(*), 0, NULL
    FROM (SELECT kind FROM work WHERE state = 'leased' ORDER BY lease_until LIMIT $1) AS first GROUP BY kind
    UNION ALL
    SELECT kind, 0, 0, 0, count(*), NULL
    FROM (SELECT kind FROM work WHERE state = 'dead' ORDER BY id LIMIT $1) AS first GROUP BY kind
)
SELECT kind, sum(due)::bigint, sum(scheduled)::bigint, sum(leased)::bigint, sum(dead)::bigint,
       coalesce(extract(epoch FROM now() - min(oldest)), 0)::float8
FROM counted GROUP BY kind ORDER BY kind
"""

_LIST_DEAD = """
SELECT id, kind, ref_id, attempts, last_error, created_at FROM work
WHERE state = 'dead' AND ($1::text IS NULL OR kind = $1) ORDER BY id LIMIT $2
"""

# A dead row whose key has an open successor stays dead: the successor does the work.
_REPLAY_DEAD = """
UPDATE work AS w SET state = 'due', run_at = now(), attempts = 0
WHERE state = 'dead' AND ($1::bigint[] IS NULL OR id = ANY($1)) AND ($2::text IS NULL OR kind = $2)
  AND (unique_key IS NULL OR NOT EXISTS (
      SELECT FROM work AS other
      WHERE other.unique_key = w.unique_key AND other.id <> w.id AND (other.state <> 'dead' OR other.id > w.id)))
"""


async def enqueue(connection: Connection, work: Sequence[NewWork]) -> None:
    """Insert `work` in this order; it becomes visible when the caller's transaction commits."""
    current = origin()
    causes = [each.cause or current for each in work]
    order_keys = [each.order_key for each in work]
    if any(order_keys):
        await connection.execute(_LOCK_ORDER_KEYS, order_keys)
    await connection.execute(
        _ENQUEUE,
        [each.kind for each in work],
        [each.ref_id for each in work],
        [each.delay for each in work],
        order_keys,
        [each.unique_key for each in work],
        [each.priority for each in work],
        [cause.trace_context for cause in causes],
        [cause.request_id for cause in causes],
    )


async def claim(
    connection: Connection, *, lanes: Sequence[Lane], limit: int, lease_token: UUID, lease: timedelta
) -> list[Work]:
    """Lease up to `limit` due rows, lane by lane in the order given, oldest first in each; returned in order of id.

    Rows that others are looking at are skipped, never waited for.
    """
    rows = await connection.fetch(
        _CLAIM,
        [lane.kind for lane in lanes],
        [lane.priority for lane in lanes],
        [lane.room for lane in lanes],
        limit,
        lease_token,
        lease,
    )
    claimed = (
        Work(row[0], row[1], row[2], row[3], row[4], Priority(row[5]), row[6], Origin(row[7], row[8])) for row in rows
    )
    return sorted(claimed, key=lambda each: each.id)


async def finish(connection: Connection, done: Sequence[Work]) -> set[int]:
    """Delete finished rows and return the ids of those that were still ours; others keep what somebody took over."""
    rows = await connection.fetch(_FINISH, [each.id for each in done], [each.lease_token for each in done])
    return {row[0] for row in rows}


async def retry_later(
    connection: Connection, work: Work, *, delay: timedelta, error: str, attempts_at_most: int | None = None
) -> None:
    """Make the row due again after `delay`; a no-op when the lease is no longer ours.

    `attempts_at_most` forgets the attempts above it.
    """
    attempts = work.attempts if attempts_at_most is None else attempts_at_most
    await connection.execute(_RESCHEDULE, work.id, work.lease_token, delay, error[:500], attempts)


async def run_again(connection: Connection, work: Work, *, delay: timedelta) -> None:
    """Make a recurring row due again after a success: attempts start from zero."""
    await connection.execute(_RESCHEDULE, work.id, work.lease_token, delay, None, 0)


async def put_aside(connection: Connection, work: Work, *, error: str) -> None:
    """Mark the row dead: kept with its error, run by nobody until replayed."""
    await connection.execute(_RESCHEDULE, work.id, work.lease_token, None, error[:500], work.attempts)


async def postpone(connection: Connection, held: Sequence[tuple[Work, timedelta, str]]) -> None:
    """Make rows due again after their delays, as if they had not been started; the text says what they wait for."""
    await connection.execute(
        _POSTPONE,
        [work.id for work, _, _ in held],
        [work.lease_token for work, _, _ in held],
        [delay for _, delay, _ in held],
        [reason[:500] for _, _, reason in held],
    )


async def give_back(connection: Connection, held: Iterable[Work]) -> None:
    """Release leases of work that was never started, so that others can run it now."""
    held = list(held)
    await connection.execute(_GIVE_BACK, [each.id for each in held], [each.lease_token for each in held])


async def release(connection: Connection, lease_token: UUID) -> int:
    """Release everything leased under this token, started or not: its holder ends. Returns how many rows."""
    return rows_affected(await connection.execute(_RELEASE, lease_token))


async def take_over_expired(connection: Connection, *, max_attempts: int) -> int:
    """Make rows due whose holder let the lease run out, dead after `max_attempts` starts; returns how many."""
    return rows_affected(await connection.execute(_TAKE_OVER, max_attempts))


async def seconds_until_next(connection: Connection, *, lanes: Sequence[Lane]) -> float | None:
    """Return the time until the next row that is not due yet will be, None when there is none."""
    seconds: float | None = await connection.fetchval(
        _NEXT_DUE, [lane.kind for lane in lanes], [lane.priority for lane in lanes]
    )
    return seconds


async def backlog(connection: Connection, *, count_at_most: int = 5_000) -> list[Backlog]:
    """Count open and dead work by kind; the time it takes does not grow with how much there is.

    Of what is due, and of what is scheduled, at most `count_at_most` rows are counted per kind and priority; of what is
    leased, and of what is dead, as many of all kinds together. How long the oldest has waited is always exact.
    """
    return [Backlog(*row) for row in await connection.fetch(_BACKLOG, count_at_most)]


async def list_dead(connection: Connection, *, kind: str | None = None, limit: int = 100) -> list[DeadWork]:
    """Return dead rows, oldest first."""
    return [DeadWork(*row) for row in await connection.fetch(_LIST_DEAD, kind, limit)]


async def replay_dead(connection: Connection, *, ids: Sequence[int] | None = None, kind: str | None = None) -> int:
    """Make dead rows due now, with all their attempts back; None means no restriction. Returns how many."""
    return rows_affected(await connection.execute(_REPLAY_DEAD, ids, kind))

"""Waiting until the service has settled, and reading what became of everything."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final
from urllib.parse import quote

from chaos.cast import Cast
from chaos.client import Client
from chaos.record import Arrival, Evidence, Send, Stored

_POLL_S: Final = 1.0
_ANSWER_WITHIN_S: Final = 30.0
_CALM_LOOKS: Final = 3
"""So many looks in a row must find nothing to do: work may give rise to work."""
_NOT_OVER: Final = ("accepted", "scheduled", "queued", "sending", "sent", "unknown")
_SENDING: Final = "send_message"
"""Dead work of this kind is a message that waits for a person. Of any other kind it is work that was not done."""
_READERS: Final = 8
_is_backlog = re.compile(r'sms_work_backlog\{kind="([^"]+)",state="(due|scheduled|leased)"\}').fullmatch


class Observer:
    """Reads the public API, the metrics, the list of dead work and the simulator's record; writes nothing."""

    def __init__(self, cast: Cast, client: Client, evidence: Evidence) -> None:
        self._cast = cast
        self._client = client
        self._evidence = evidence
        self._at_rest: Mapping[str, int] = {}

    async def look_at_rest(self) -> None:
        """Learn which work a service has that has nothing to do: what recurs is always open."""
        looks = 0
        while looks < _CALM_LOOKS:
            now = await self._open_work()
            looks = looks + 1 if now == self._at_rest else 0
            self._at_rest = now
            await asyncio.sleep(_POLL_S)

    async def settle(self, patience_s: float) -> float:
        """Wait until nothing is left to do; return the seconds it took.

        After `patience_s` it gives up and notes in the evidence what is left.
        """
        begun, calm = time.monotonic(), 0
        while calm < _CALM_LOOKS:
            left = await self._left()
            calm = 0 if left else calm + 1
            if left and time.monotonic() - begun > patience_s:
                self._evidence.unsettled += left
                break
            await asyncio.sleep(_POLL_S)
        return time.monotonic() - begun

    async def read_all(self) -> None:
        """Fill the evidence with what providers, phones, history and operators know by now."""
        evidence = self._evidence
        evidence.open_work = await self._work_left()
        dead = await self._cast.list_dead()
        evidence.dead = {message_id for message_id, kind in dead.items() if kind == _SENDING}
        other = Counter(f"{kind}, dead" for kind in dead.values() if kind != _SENDING)
        evidence.open_work |= other
        evidence.arrivals = [arrival async for arrival in self._arrivals()]
        phones = sorted({text.phone for text in evidence.texts} | {send.phone for send in evidence.sends})
        shares = [phones[start::_READERS] for start in range(_READERS)]
        for histories in await asyncio.gather(*(self._histories(share) for share in shares)):
            evidence.history += histories
        shares_of_sends = [evidence.sends[start::_READERS] for start in range(_READERS)]
        await asyncio.gather(*(self._read_details(share) for share in shares_of_sends))

    async def _left(self) -> list[str]:
        """Return what is still to be done, in words."""
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                return await self._look_for_work()
        except TimeoutError:
            return ["no service answers"]

    async def _look_for_work(self) -> list[str]:
        summary = await self._client.simulator("GET", "/simulator/received/summary")
        left = [] if summary["is_quiet"] else [f"{summary['on_the_way']} texts and their receipts on the way"]
        left += [f"{count} rows of work: {kind}" for kind, count in (await self._work_left()).items()]
        for status in _NOT_OVER:
            page = (await self._client.insist("GET", f"/v1/sms?direction=outbound&status={status}&limit=100")).json()
            waiting = [each["request_id"] for each in page["messages"]]
            if waiting and status == "unknown":
                waiting = sorted({*waiting} - (await self._cast.list_dead()).keys())
            left += [f"{message_id} is {status}" for message_id in waiting]
        return left

    async def _work_left(self) -> dict[str, int]:
        """Return the rows of work that are open, by kind, beyond those of a service at rest."""
        now = await self._open_work()
        return {kind: count for kind, count in now.items() if count > self._at_rest.get(kind, 0)}

    async def _open_work(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for name, value in (await self._client.metrics()).items():
            if found := _is_backlog(name):
                counts[found[1]] = counts.get(found[1], 0) + int(value)
        return {kind: count for kind, count in counts.items() if count}

    async def _arrivals(self) -> AsyncIterator[Arrival]:
        after: int | None = -1
        while after is not None:
            page = await self._client.simulator("GET", f"/simulator/received?limit=1000&after={after}")
            for row in page["received"]:
                yield Arrival(
                    number=row["number"],
                    provider=row["provider"],
                    message=row["provider_message_id"],
                    phone=row["recipient"],
                    body=row["body"],
                    has_arrived=row["arrived_at"] is not None,
                    accepted_s=row["accepted_monotonic"],
                )
            after = page["next_after"]

    async def _read_details(self, sends: list[Send]) -> None:
        """Read how each message got where it is. One that does not exist has no details, and is counted as lost."""
        for send in sends:
            for message_id in send.message_ids:
                asked_s = time.monotonic()
                answer = await self._client.insist("GET", f"/v1/sms/{message_id}", expected=(200, 404))
                if answer.status == 404:
                    continue
                detail = answer.json()
                self._evidence.see(message_id, detail["status"], asked_s, time.monotonic())
                send.attempts += len(detail["attempts"])
                send.was_unknown |= any(event["event_status"] == "unknown" for event in detail["events"])

    async def _histories(self, phones: list[str]) -> list[Stored]:
        return [stored for phone in phones for stored in await self._history(phone)]

    async def _history(self, phone: str) -> list[Stored]:
        """Return a whole conversation, oldest first, read page by page as any caller would; empty: there is none."""
        found: list[Stored] = []
        cursor: str | None = ""
        while cursor is not None:
            query = f"?limit=100&cursor={quote(cursor)}" if cursor else "?limit=100"
            asked_s = time.monotonic()
            answer = await self._client.insist("GET", f"/conversations/{quote(phone)}{query}", expected=(200, 404))
            if answer.status == 404:
                return []
            page = answer.json()
            is_looked_up = page["tenant_lookup_status"] != "pending"
            for message in page["messages"]:
                stored = _stored(phone, message, is_looked_up=is_looked_up)
                found.append(stored)
                if not stored.is_inbound:
                    self._evidence.see(stored.id, stored.status, asked_s, time.monotonic())
            cursor = page["next_cursor"]
        return found[::-1]


def _stored(phone: str, message: Mapping[str, Any], *, is_looked_up: bool) -> Stored:
    is_inbound = message["direction"] == "inbound"
    return Stored(
        id=message["id"],
        phone=phone,
        sid=message["twilio_sid"],
        is_inbound=is_inbound,
        status=message["delivery_status"],
        is_understood=not is_inbound or (is_looked_up and message["language_detected"] is not None),
    )

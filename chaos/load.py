"""Using the service as everybody does at once: phones text, clients send and ask, people read."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from chaos.client import Client
from chaos.record import Evidence, PhoneText, Send, WebhookTry

_SAYINGS: Final = (
    "The heating in my apartment has been broken since yesterday",
    "Hola, no hay agua caliente en mi apartamento desde ayer",
    "Bom dia, a torneira da cozinha não para de pingar",
)
_PRIORITIES: Final = ("urgent", "normal", "normal", "bulk")
_SEND_PHONES: Final = 80
_AT_ONCE: Final = 150
"""Most texts, or sends, under way: what comes on top waits for its turn, so a long outage piles up nothing."""
_REDELIVERED_SHARE: Final = 0.1
_SAME_WORDS_SHARE: Final = 0.05
"""Messages that say what the one before them said: a provider that is asked for one may show the other."""
_PAUSE_S: Final = 0.3
_JOURNAL_EVERY_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Rates:
    """How much happens in a second."""

    texts: float = 25.0
    sends: float = 15.0
    looks: float = 10.0
    reads: float = 5.0


class Load:
    """Everything that uses the service; what it sees goes into the evidence."""

    def __init__(self, client: Client, evidence: Evidence, phones: Sequence[str], seed: int, rates: Rates) -> None:
        self._client = client
        self._evidence = evidence
        self._phones = phones
        self._chance = random.Random(f"{seed}/load")
        self._seed = seed
        self._rates = rates
        self._texts_of: dict[str, int] = dict.fromkeys(phones, 0)
        self._resting_phones = list(phones)
        lines = [(phone, priority) for phone in phones[:_SEND_PHONES] for priority in sorted({*_PRIORITIES})]
        self._sends_of: dict[tuple[str, str], int] = dict.fromkeys(lines, 0)
        self._resting_lines = list(lines)
        self._words_of: dict[tuple[str, str], str] = {}
        self._journal_seen: set[str] = set()

    async def run(self, seconds: float) -> None:
        """Let all of it happen for so long, then wait until what was begun has its answer."""
        until = time.monotonic() + seconds
        reading_journal = asyncio.create_task(self._follow_journal())
        try:
            async with asyncio.TaskGroup() as group:
                for rate, act in (
                    (self._rates.texts, self._text),
                    (self._rates.sends, self._send),
                    (self._rates.looks, self._look),
                    (self._rates.reads, self._read),
                ):
                    group.create_task(_pace(rate, until, act))
        finally:
            reading_journal.cancel()
            await asyncio.wait([reading_journal])

    async def read_journal(self) -> None:
        """Take over what the simulator knows about the receipts it delivered. It keeps the last 10,000 deliveries."""
        page = await self._client.simulator("GET", "/simulator/deliveries?kind=status&limit=1000")
        for delivery in page["deliveries"]:
            if delivery["id"] not in self._journal_seen:
                self._journal_seen.add(delivery["id"])
                self._note_tries(delivery)

    async def _follow_journal(self) -> None:
        while True:
            await asyncio.sleep(_JOURNAL_EVERY_S)
            await self.read_journal()

    async def _text(self) -> None:
        """A phone texts, and waits for its provider to be done before it texts again."""
        if not self._resting_phones:
            return
        phone = self._take(self._resting_phones)
        place = self._texts_of[phone]
        self._texts_of[phone] += 1
        text = PhoneText(sid=f"SM{self._chance.getrandbits(128):032x}", phone=phone, place=place)
        self._evidence.texts.append(text)
        copies = 2 if self._chance.random() < _REDELIVERED_SHARE else 1
        body = f"{_SAYINGS[len(self._evidence.texts) % len(_SAYINGS)]} ({place})"
        wanted = {"from": phone, "body": body, "message_sid": text.sid, "copies": copies}
        result = await self._client.simulator("POST", "/simulator/texts", wanted)
        for delivery in result["deliveries"]:
            text.is_acknowledged |= self._note_tries(delivery)
        self._resting_phones.append(phone)

    async def _send(self) -> None:
        """A client asks for a message with a key of its own, and repeats that until it is accepted."""
        if not self._resting_lines:
            return
        line = phone, priority = self._take(self._resting_lines)
        place = self._sends_of[line]
        self._sends_of[line] += 1
        number = len(self._evidence.sends)
        send = Send(
            key=f"chaos-{self._seed}-{number}",
            phone=phone,
            priority=priority,
            place=place,
            body=f"{priority} {place}: your appointment {self._seed}-{number} is at ten.",
        )
        if line in self._words_of and self._chance.random() < _SAME_WORDS_SHARE:
            send.body = self._words_of[line]
        self._words_of[line] = send.body
        self._evidence.sends.append(send)
        wanted = {"to": phone, "message": send.body, "priority": priority}
        # Now and then a client that has its answer asks all the same: an impatient finger, a job that was run twice.
        answers = 0
        wanted_answers = 2 if self._chance.random() < _REDELIVERED_SHARE else 1
        while answers < wanted_answers:
            send.tries += 1
            answer = await self._client.ask("POST", "/v1/sms/send", wanted, key=send.key, expected=(202,))
            if answer is None:
                await asyncio.sleep(_PAUSE_S)
                continue
            answers += 1
            if (message_id := answer.json()["request_id"]) not in send.message_ids:
                send.message_ids.append(message_id)
        self._resting_lines.append(line)

    async def _look(self) -> None:
        """A client asks what became of one of its messages, a recent one mostly."""
        accepted = [send for send in self._evidence.sends[-400:] if send.message_ids]
        if not accepted:
            return
        send = self._chance.choice(accepted)
        asked_s = time.monotonic()
        answer = await self._client.ask("GET", f"/v1/sms/{send.message_ids[0]}")
        if answer is not None:
            self._evidence.reads += 1
            self._evidence.see(send.message_ids[0], answer.json()["status"], asked_s, time.monotonic())

    async def _read(self) -> None:
        """Somebody reads a conversation; one that has not begun yet is 404."""
        phone = self._chance.choice(self._phones)
        asked_s = time.monotonic()
        answer = await self._client.ask("GET", f"/conversations/{quote(phone)}?limit=50", expected=(200, 404))
        if answer is not None and answer.status == 200:
            self._evidence.reads += 1
            answered_s = time.monotonic()
            for message in answer.json()["messages"]:
                if message["direction"] == "outbound":
                    self._evidence.see(message["id"], message["delivery_status"], asked_s, answered_s)

    def _take(self, resting: list[Any]) -> Any:
        """Take one at random out of those that rest."""
        place = self._chance.randrange(len(resting))
        resting[place], resting[-1] = resting[-1], resting[place]
        return resting.pop()

    def _note_tries(self, delivery: Mapping[str, Any]) -> bool:
        tries = [
            WebhookTry(
                message=delivery["message_sid"],
                kind=delivery["kind"],
                status_code=each["status_code"],
                latency_ms=each["latency_ms"],
                is_fallback=each["is_fallback"],
            )
            for each in delivery["attempts"]
        ]
        self._evidence.webhooks += tries
        return any(each.is_acknowledged for each in tries)


async def _pace(rate: float, until: float, act: Callable[[], Coroutine[None, None, None]]) -> None:
    """Begin `act` so often per second, whatever came of the last one; return when all that were begun are done."""
    tasks: set[asyncio.Task[None]] = set()
    due = time.monotonic()
    async with asyncio.TaskGroup() as group:
        while (now := time.monotonic()) < until:
            due = max(due + 1 / rate, now - 1)  # after a standstill a second's worth is caught up with, no more
            if len(tasks) < _AT_ONCE:
                task = group.create_task(act())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(max(due - time.monotonic(), 0))

"""Messages are sent, canceled, retried and reported on, texts come in, in any order, against a model of them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count

import orjson
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sms_foundation.core.config import Settings
from sms_foundation.core.db import DatabaseUrl
from tests.fuzz.bridge import Bridge, run_machine
from tests.loopback import LoopbackServer, Received
from tests.support.outbound import Sending, sending
from tests.support.service import Service, make_settings
from tests.support.twilio_account import TwilioAccount, refusal

_REFUSED = "no: "
_INVALID_NUMBER = 21211
# By what providers may report, in the order in which a message lives; nothing follows an end.
_RANKS = {"accepted": 2, "queued": 3, "sending": 4, "sent": 5, "delivered": 7, "undelivered": 7, "failed": 7, "read": 8}
_WAITING = {"accepted", "queued"}
"""Before the call to a provider, if the provider has not reported them: `queued` is one that was tried before."""
_ENDS = {"undelivered", "failed", "canceled"}
_REPORTED = ["queued", "sending", "sent", "delivered", "undelivered", "failed", "read"]
_numbers = count(1)
_AHEAD = "2027-06-01T09:30:00Z"


class Account(TwilioAccount):
    """Refuses what begins with `no: `."""

    async def answer(self, request: Received) -> bytes:
        if b"Body=no%3A" in request.body:
            return refusal(_INVALID_NUMBER, 400)
        return await super().answer(request)


@pytest.fixture
def settings() -> Settings:
    return make_settings(work_in_process=False)


@dataclass
class Sms:
    """An outbound message as it should be."""

    id: str
    phone: str
    text: str
    status: str = "accepted"
    is_scheduled: bool = False
    sid: str | None = None


@dataclass
class Talk:
    """A conversation as it should be, oldest first."""

    phone: str
    messages: list[str]
    filed: dict[str, str | None]


def machine(  # noqa: C901  # its rules
    service: Service, bridge: Bridge, out: Sending
) -> Callable[[], RuleBasedStateMachine]:
    """Return the class of a machine that uses the API as callers and providers do; `out` sends when it is told to."""

    class Messages(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            first = next(_numbers)
            self.talks = {phone: Talk(phone, [], {}) for phone in (f"+1415{first:05d}{n:02d}" for n in (10, 11))}
            self.sms: list[Sms] = []
            self.named: dict[str, Sms] = {}
            self.texts: list[tuple[str, str]] = []  # SID and sender of those that came in

        @initialize()
        def begin_with_one_of_each(self) -> None:
            for text in ("sent before", f"{_REFUSED}refused before"):
                phone = min(self.talks)
                answer = bridge.call("POST", "/v1/sms/send", {"to": phone, "message": text})
                self.sms.append(Sms(answer.json()["request_id"], phone, text))
                self.talks[phone].messages.append(self.sms[-1].id)
            self.let_what_is_due_be_sent()

        @rule(
            data=st.data(),
            is_refused=st.booleans(),
            is_later=st.booleans(),
            is_named=st.booleans(),
            twins=st.booleans(),
        )
        def send(self, data: st.DataObject, is_refused: bool, is_later: bool, is_named: bool, twins: bool) -> None:
            phone = data.draw(st.sampled_from(sorted(self.talks)))
            text = f"{_REFUSED if is_refused else ''}message {next(_numbers)}"
            body = {"to": phone, "message": text} | ({"send_at": _AHEAD} if is_later else {})
            name = f"name-{next(_numbers)}" if is_named else None
            call = bridge.call_twice if twins and name else lambda *args, **more: [bridge.call(*args, **more)]
            answers = call("POST", "/v1/sms/send", body, name=name)
            assert {each.status_code for each in answers} == {202}, answers[0].text
            assert len({each.json()["request_id"] for each in answers}) == 1
            sms = Sms(answers[0].json()["request_id"], phone, text, is_scheduled=is_later)
            self.sms.append(sms)
            self.talks[phone].messages.append(sms.id)
            if name:
                self.named[name] = sms

        @precondition(lambda self: self.named)
        @rule(data=st.data(), is_same=st.booleans())
        def send_again_under_the_same_name(self, data: st.DataObject, is_same: bool) -> None:
            name = data.draw(st.sampled_from(sorted(self.named)))
            sms = self.named[name]
            body = {"to": sms.phone, "message": sms.text if is_same else "other"}
            answer = bridge.call(
                "POST", "/v1/sms/send", body | ({"send_at": _AHEAD} if sms.is_scheduled and is_same else {}), name=name
            )
            if is_same:
                assert (answer.status_code, answer.json()["request_id"]) == (202, sms.id)
                assert answer.headers["x-idempotent-replayed"] == "true"
            else:
                assert answer.status_code == 422

        @rule()
        def let_what_is_due_be_sent(self) -> None:
            bridge.wait(self._send_all())
            for sms in self.sms:
                if sms.status in _WAITING and (sms.status == "queued" or not sms.is_scheduled):
                    shown = self.read(sms)
                    if sms.text.startswith(_REFUSED):
                        sms.status = "failed"
                    else:
                        sms.status, sms.sid = "sending", shown["attempts"][-1]["twilio_sid"]
                        assert sms.sid

        async def _send_all(self) -> None:
            while work := await out.claim():
                await out.run(work)

        @precondition(lambda self: self.sms)
        @rule(data=st.data())
        def cancel(self, data: st.DataObject) -> None:
            sms = data.draw(st.sampled_from(self.sms))
            answer = bridge.call("POST", f"/v1/sms/{sms.id}/cancel")
            if (sms.status in _WAITING and sms.sid is None) or sms.status == "canceled":
                assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
                sms.status = "canceled"
            else:
                assert answer.status_code == 409, sms

        @precondition(lambda self: self.sms)
        @rule(data=st.data())
        def retry(self, data: st.DataObject) -> None:
            sms = data.draw(st.sampled_from(self.sms))
            answer = bridge.call("POST", f"/v1/sms/{sms.id}/retry")
            if sms.status == "failed" and sms.sid is None:
                assert (answer.status_code, answer.json()["status"]) == (200, "queued"), answer.text
                sms.status = "queued"
            else:
                assert answer.status_code == 409, sms

        @precondition(lambda self: self.sms)
        @rule(data=st.data())
        def move(self, data: st.DataObject) -> None:
            sms = data.draw(st.sampled_from(self.sms))
            at = datetime.now(UTC) + timedelta(days=30)
            answer = bridge.call("PATCH", f"/v1/sms/{sms.id}", {"send_at": at.isoformat()})
            may_move = sms.is_scheduled and sms.status == "accepted"
            assert answer.status_code == (200 if may_move else 409), answer.text

        @precondition(lambda self: any(sms.sid for sms in self.sms))
        @rule(data=st.data(), statuses=st.lists(st.sampled_from(_REPORTED), min_size=1, max_size=4))
        def report(self, data: st.DataObject, statuses: list[str]) -> None:
            sms = data.draw(st.sampled_from([each for each in self.sms if each.sid]))
            for status in statuses:
                assert bridge.wait(service.status(str(sms.sid), status)).status_code == 200
                if sms.status not in _ENDS and _RANKS[status] > _RANKS[sms.status]:
                    sms.status = status
            assert self.read(sms)["status"] == sms.status, (sms, statuses)

        @rule(data=st.data())
        def text(self, data: st.DataObject) -> None:
            phone = data.draw(st.sampled_from(sorted(self.talks)))
            sid = f"SMf{next(_numbers):031x}"
            assert bridge.wait(service.text(sid, "Hola", sender=phone)).status_code == 200
            self.texts.append((sid, phone))
            self.talks[phone].messages.append(bridge.call("GET", f"/messages/{sid}").json()["id"])

        @precondition(lambda self: self.texts)
        @rule(data=st.data())
        def deliver_a_text_again(self, data: st.DataObject) -> None:
            sid, phone = data.draw(st.sampled_from(self.texts))
            assert bridge.wait(service.text(sid, "Hola", sender=phone)).status_code == 200

        @rule(
            data=st.data(),
            change=st.dictionaries(
                st.sampled_from(["workflow_type", "workflow_id"]), st.sampled_from(["a", "b", None])
            ),
        )
        def file(self, data: st.DataObject, change: dict[str, str | None]) -> None:
            talk = self.talks[data.draw(st.sampled_from(sorted(self.talks)))]
            answer = bridge.call("PATCH", f"/conversations/{talk.phone}", change)
            assert answer.status_code == (400 if not change else 200 if talk.messages else 404), answer.text
            if answer.status_code == 200:
                talk.filed |= change

        def read(self, sms: Sms) -> dict:
            return bridge.call("GET", f"/v1/sms/{sms.id}").json()

        @invariant()
        def messages_are_as_they_should_be(self) -> None:
            for sms in self.sms[-3:]:
                assert self.read(sms)["status"] == sms.status, sms

        @rule(limit=st.integers(1, 4))
        def conversations_are_as_they_should_be(self, limit: int) -> None:
            for talk in self.talks.values():
                found, cursor = [], None
                while True:
                    path = f"/conversations/{talk.phone}?limit={limit}" + (f"&cursor={cursor}" if cursor else "")
                    answer = bridge.call("GET", path)
                    if not talk.messages:
                        assert answer.status_code == 404
                        break
                    page = answer.json()
                    found += [each["id"] for each in page["messages"]]
                    assert page["total"] == page["message_count"] == len(talk.messages)
                    for name in ("workflow_type", "workflow_id"):
                        assert page[name] == talk.filed.get(name)
                    if (cursor := page["next_cursor"]) is None:
                        break
                assert found == talk.messages[::-1]

        def teardown(self) -> None:
            self.let_what_is_due_be_sent()
            self.messages_are_as_they_should_be()

    return Messages


class TestMessages:
    async def test_messages_and_conversations_are_as_the_model_says_whatever_happened_before(
        self, service: Service, database_url: DatabaseUrl
    ) -> None:
        account = Account()
        async with LoopbackServer(account.answer) as server:
            account.base_url = server.base_url
            async with sending(database_url, orjson.loads(account.providers), is_running=False) as out:
                bridge = Bridge(service.client, asyncio.get_running_loop())
                await run_machine(machine(service, bridge, out), usual=30)

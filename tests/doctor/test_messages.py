"""Statuses, attempts and places of messages: each defect, made by SQL in a real database, is found as what it is."""

from datetime import timedelta

import pytest

from sms_foundation.core.clock import utc_now
from sms_foundation.doctor.findings import Severity
from tests.doctor.examined import Patient


async def healthy(patient: Patient) -> None:
    """Every way in which a message can stand without anything being wrong."""
    await patient.conversation(
        {"direction": "inbound", "status": "received"}, {"direction": "inbound", "status": "received"}
    )
    delivered = await patient.message(status="delivered")
    for word in ("queued", "sent", "delivered"):
        await patient.event(delivered, word)
    failed_first = await patient.message(status="failed")
    for word in ("delivered", "failed"):  # whoever was first has won, and times do not tell who that was
        await patient.event(failed_first, word)
    sending = await patient.message(status="sending")
    await patient.event(sending, "queued", raw=None)
    canceled = await patient.message(status="canceled", named=None)
    await patient.event(canceled, "canceled", name=None)
    unknown = await patient.message(status="unknown", named=None)
    await patient.attempt(unknown, "unknown", age=timedelta(minutes=1))
    await patient.event(unknown, "unknown", name=None)
    await patient.work("send_message", unknown)
    accepted = await patient.message(status="accepted", named=None)
    await patient.work("release_message", accepted, run_at="now() + interval '1 day'")


async def test_a_healthy_database_has_no_findings(patient: Patient) -> None:
    await healthy(patient)

    found = await patient.examine()

    assert found.names() == set()
    assert found.report.looked_at["messages"] == 8


class TestStatus:
    @pytest.mark.parametrize("status", ["delivered", "read", "undelivered", "partially_delivered"])
    async def test_that_nobody_reported(self, patient: Patient, status: str) -> None:
        await healthy(patient)
        id_ = await patient.message(status=status)
        await patient.event(id_, "queued", raw=None)

        finding = (await patient.examine())["status_not_explained"]

        assert (finding.count, finding.examples) == (1, (str(id_),))
        assert finding.details == {f"{status}, which nobody has reported": 1}

    @pytest.mark.parametrize(("status", "word"), [("sent", "delivered"), ("sending", "sent"), ("delivered", "read")])
    async def test_behind_what_was_reported(self, patient: Patient, status: str, word: str) -> None:
        id_ = await patient.message(status=status)
        for each in (status, word):
            await patient.event(id_, each)

        finding = (await patient.examine())["status_not_explained"]

        assert finding.details == {f"{status}, though it was reported {word}": 1}

    @pytest.mark.parametrize(
        ("status", "steps"),
        [("queued", "canceled"), ("failed", "queued"), ("accepted", "failed"), ("expired", "unknown")],
    )
    async def test_against_our_own_last_step(self, patient: Patient, status: str, steps: str) -> None:
        id_ = await patient.message(status=status, named=None)
        await patient.event(id_, steps, name=None)
        await patient.work("send_message", id_)

        assert (await patient.examine())["status_not_explained"].examples == (str(id_),)

    async def test_that_no_call_has_been_begun_for(self, patient: Patient) -> None:
        id_ = await patient.message(status="sending", named=None)
        await patient.work("send_message", id_)

        assert (await patient.examine())["status_not_explained"].examples == (str(id_),)

    async def test_final_without_the_time_of_its_end(self, patient: Patient) -> None:
        id_ = await patient.message(status="delivered", ended=False)
        await patient.event(id_, "delivered")

        assert (await patient.examine())["status_not_explained"].details == {"delivered, without one": 1}

    async def test_what_another_provider_says_of_another_id_proves_nothing(self, patient: Patient) -> None:
        id_ = await patient.message(status="sending")
        await patient.event(id_, "delivered", name="SM-of-an-attempt-before")

        assert (await patient.examine()).names() == set()

    async def test_of_somebody_who_was_erased_is_not_held_against_attempts_that_are_gone(
        self, patient: Patient
    ) -> None:
        id_ = await patient.message(status="sending", named=None)
        await patient.run("UPDATE sms_messages SET to_number = 'erased', message_content = '' WHERE id = $1", id_)

        assert (await patient.examine()).names() == set()

    async def test_older_than_the_period_is_left_to_all(self, patient: Patient) -> None:
        await patient.message(status="delivered")

        recent = await patient.examine(since=utc_now() - timedelta(minutes=30))
        everything = await patient.examine()

        assert (recent.names(), everything.names()) == (set(), {"status_not_explained"})


class TestAttempts:
    async def test_left_open(self, patient: Patient) -> None:
        old, new = [await patient.message(status="sending", named=None) for _ in range(2)]
        await patient.attempt(old, None, age=timedelta(hours=1))
        await patient.attempt(new, None, age=timedelta(seconds=5))
        for each in (old, new):
            await patient.work("send_message", each)

        assert (await patient.examine())["attempts_left_open"].examples == (str(old),)


class TestPlaces:
    async def test_gap(self, patient: Patient) -> None:
        three = [{"direction": "inbound", "status": "received"}] * 3
        id_, messages = await patient.conversation(*three)
        await patient.conversation(*three)
        await patient.run("DELETE FROM sms_messages WHERE id = $1", messages[1])

        found = await patient.examine()

        assert found["gaps_in_conversation"].examples == (str(id_),)
        assert found.names() == {"gaps_in_conversation"}

    async def test_double(self, patient: Patient) -> None:
        id_, messages = await patient.conversation(*[{"direction": "inbound", "status": "received"}] * 2)
        await _without_unique_places(patient)
        await patient.run("UPDATE sms_messages SET conversation_seq = 2 WHERE id = $1", messages[0])

        assert (await patient.examine())["doubles_in_conversation"].examples == (str(id_), str(id_))

    @pytest.mark.parametrize("change", [-1, 1])
    @pytest.mark.parametrize("is_all", [True, False])
    async def test_wrong_count(self, patient: Patient, change: int, is_all: bool) -> None:
        id_, _ = await patient.conversation(*[{"direction": "inbound", "status": "received"}] * 2)
        await patient.conversation({"direction": "inbound", "status": "received"})
        await patient.run("UPDATE sms_conversations SET message_count = message_count + $2 WHERE id = $1", id_, change)

        found = await patient.examine(since=None if is_all else utc_now() - timedelta(days=1))

        assert found["message_count_wrong"].examples == (str(id_),)

    @pytest.mark.parametrize("shift", [timedelta(days=-3), timedelta(minutes=-5), timedelta(minutes=5)])
    @pytest.mark.parametrize("is_all", [True, False])
    async def test_wrong_time(self, patient: Patient, shift: timedelta, is_all: bool) -> None:
        """Also one that stands outside the period: its messages, which are in it, give it away."""
        id_, _ = await patient.conversation(*[{"direction": "inbound", "status": "received"}] * 2)
        await patient.conversation({"direction": "inbound", "status": "received"})
        await patient.run(
            "UPDATE sms_conversations SET last_message_at = last_message_at + $2 WHERE id = $1", id_, shift
        )

        found = await patient.examine(since=None if is_all else utc_now() - timedelta(days=1))

        assert str(id_) in found["last_message_at_wrong"].examples
        assert found.names() == {"last_message_at_wrong"}

    async def test_a_newest_message_far_back_is_right_all_the_same(self, patient: Patient) -> None:
        """A process whose clock was ahead stored it: hundreds followed, and none of them is newer."""
        id_, messages = await patient.conversation(*[{"direction": "inbound", "status": "received"}] * 250)
        await patient.run("UPDATE sms_messages SET created_at = now() WHERE id = $1", messages[0])
        await patient.run(
            "UPDATE sms_conversations SET last_message_at = (SELECT max(created_at) FROM sms_messages) WHERE id = $1",
            id_,
        )

        assert (await patient.examine()).names() == set()


class TestReceipts:
    async def test_whose_message_is_here(self, patient: Patient) -> None:
        id_ = await patient.message(status="sent")
        await patient.event(id_, "sent")
        name = await patient.run("SELECT provider_message_id FROM sms_messages WHERE id = $1", id_)
        event = await patient.event(None, "delivered", name=name)
        await _age(patient, hours=2)

        assert (await patient.examine())["receipts_not_applied"].examples == (str(event),)

    async def test_of_nobody_are_told_apart_by_age(self, patient: Patient) -> None:
        for word in ("sent", "delivered"):
            await patient.event(None, word, name="SM-of-others")
        await _age(patient, hours=30)
        await patient.event(None, "read", name="SM-of-others")  # its message may still come

        found = await patient.examine()

        finding = found["receipts_without_message"]
        assert (finding.severity, finding.count, finding.details) == (Severity.NOTICE, 2, {"older than a day": 2})
        assert found.names() == set()

    async def test_that_were_never_asked_for(self, patient: Patient) -> None:
        now = utc_now()
        late = await patient.message(status="sending", poll_at=now - timedelta(hours=5))
        await patient.message(status="sending", poll_at=now - timedelta(minutes=1))

        assert (await patient.examine())["statuses_not_asked_for"].examples == (str(late),)


async def _age(patient: Patient, *, hours: int) -> None:
    await patient.run(
        "UPDATE sms_message_status_events SET created_at = created_at - $1::interval", timedelta(hours=hours)
    )


async def _without_unique_places(patient: Patient) -> None:
    name = "uq_sms_messages_conversation_id_conversation_seq"
    await patient.run(f"ALTER TABLE sms_messages DROP CONSTRAINT {name}")
    await patient.run(f"CREATE INDEX {name} ON sms_messages (conversation_id, conversation_seq)")

"""Work that is dead, late, held by the dead, behind somebody, about nothing, and messages that have none."""

from datetime import timedelta
from uuid import uuid4

from sms_foundation.doctor.findings import Severity
from sms_foundation.doctor.limits import Limits
from tests.doctor.examined import Patient


class TestMessages:
    async def test_that_were_accepted_and_have_no_work(self, patient: Patient) -> None:
        lost = await patient.message(status="accepted", named=None)
        waiting = await patient.message(status="queued", named=None)
        dead = await patient.message(status="queued", named=None)
        await patient.work("send_message", waiting, order_key="'a/1'")
        await patient.work("send_message", dead, state="'dead'")

        found = await patient.examine()

        assert found["messages_without_work"].examples == (str(lost),)
        assert found["dead_work"].count == 1

    async def test_that_changed_since_they_were_seen_are_somebodys(self, patient: Patient) -> None:
        """What looks stranded may have been finished between the one look and the other."""
        id_ = await patient.message(status="queued", named=None)
        await patient.run("UPDATE sms_messages SET updated_at = now() + interval '1 minute' WHERE id = $1", id_)

        assert (await patient.examine()).names() == set()


class TestWork:
    async def test_leases_that_nobody_has_taken_over(self, patient: Patient) -> None:
        leased = {"state": "'leased'", "lease_token": f"'{uuid4()}'"}
        old = await patient.work("reconcile_tenants", **leased, lease_until="now() - interval '1 hour'")
        await patient.work("tidy_access", **leased, lease_until="now() - interval '5 seconds'")
        await patient.work("tend_providers", **leased, lease_until="now() + interval '1 minute'")

        assert (await patient.examine())["leases_of_dead_workers"].examples == (str(old),)

    async def test_dead_rows_by_kind_and_those_of_tests_apart(self, patient: Patient) -> None:
        id_ = await patient.message(direction="inbound", status="received")
        dead = await patient.work("message_received", id_, state="'dead'")
        await patient.work("send_test_message", id_, state="'dead'")

        found = await patient.examine()

        assert (found["dead_work"].examples, found["dead_work"].details) == ((str(dead),), {"message_received": 1})
        assert found["dead_test_work"].severity is Severity.NOTICE

    async def test_overdue_by_age(self, patient: Patient) -> None:
        for age in ("2 days", "3 hours", "20 minutes", "1 minute"):
            await patient.work("tidy_access", run_at=f"now() - interval '{age}'")

        finding = (await patient.examine())["work_overdue"]

        assert finding.count == 3
        assert finding.details == {"more than a day": 1, "up to a day": 1, "up to an hour": 1}

    async def test_sends_may_wait_for_their_rate_for_a_while(self, patient: Patient) -> None:
        id_ = await patient.message(status="queued", named=None)
        await patient.work("send_message", id_, run_at="now() - interval '30 minutes'")

        assert (await patient.examine()).names() == set()

    async def test_about_what_is_gone(self, patient: Patient) -> None:
        gone = [
            await patient.work(kind, uuid4())
            for kind in ("send_message", "receipt_unmatched", "look_up_conversation", "tell_language")
        ]

        assert (await patient.examine())["work_about_nothing"].examples == tuple(map(str, gone))

    async def test_that_nobody_does(self, patient: Patient) -> None:
        strange = await patient.work("fly_to_the_moon")

        assert (await patient.examine())["work_nobody_does"].examples == (str(strange),)


class TestLines:
    async def test_behind_a_head_that_is_in_nobodys_hands(self, patient: Patient) -> None:
        first, second = [await patient.message(status="queued", named=None) for _ in range(2)]
        head = await patient.work("send_message", first, order_key="'x/1'", run_at="now() + interval '1 hour'")
        await patient.work("send_message", second, order_key="'x/1'", run_at="now() - interval '5 hours'")

        assert (await patient.examine())["lines_stuck"].examples == (str(head),)

    async def test_that_move_are_not_stuck(self, patient: Patient) -> None:
        first, second = [await patient.message(status="queued", named=None) for _ in range(2)]
        await patient.work(
            "send_message",
            first,
            order_key="'x/1'",
            state="'leased'",
            lease_token=f"'{uuid4()}'",
            lease_until="now() + interval '1 minute'",
        )
        await patient.work("send_message", second, order_key="'x/1'", run_at="now() - interval '5 hours'")

        found = await patient.examine(limits=Limits(sends_overdue=timedelta(days=1)))

        assert found.names() == set()

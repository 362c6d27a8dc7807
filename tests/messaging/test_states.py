from itertools import permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.core.db import Database
from sms_foundation.messaging.states import ENDS, RANKS, next_status, sql_leads_further
from sms_foundation.providers.base import MessageStatus

statuses = st.sampled_from(MessageStatus)
reports = st.none() | statuses


def after(start: MessageStatus, reported: list[MessageStatus | None]) -> MessageStatus:
    for each in reported:
        start = next_status(start, each)
    return start


class TestNextStatus:
    def test_every_status_has_a_rank(self) -> None:
        assert RANKS.keys() == set(MessageStatus)

    @given(statuses, reports)
    def test_same_report_twice_equals_once(self, current: MessageStatus, reported: MessageStatus | None) -> None:
        once = next_status(current, reported)

        assert next_status(once, reported) is once

    @given(statuses, st.lists(reports))
    def test_rank_never_falls(self, current: MessageStatus, reported: list[MessageStatus | None]) -> None:
        assert RANKS[after(current, reported)] >= RANKS[current]

    @given(statuses, reports)
    def test_result_is_the_one_or_the_other(self, current: MessageStatus, reported: MessageStatus | None) -> None:
        assert next_status(current, reported) in (current, reported)

    @given(st.sampled_from(sorted(ENDS)), st.lists(reports))
    def test_nothing_follows_an_end(self, end: MessageStatus, reported: list[MessageStatus | None]) -> None:
        assert after(end, reported) is end

    @given(statuses)
    def test_word_that_nobody_knows_changes_nothing(self, current: MessageStatus) -> None:
        assert next_status(current, None) is current

    @pytest.mark.parametrize("order", list(permutations(["queued", "sending", "sent", "delivered"])), ids="-".join)
    @pytest.mark.parametrize("first", ["accepted", "scheduled", "queued"])
    def test_every_order_ends_in_delivered(self, first: str, order: tuple[str, ...]) -> None:
        reported: list[MessageStatus | None] = [MessageStatus(each) for each in order]

        assert after(MessageStatus(first), reported) is MessageStatus.DELIVERED
        assert after(MessageStatus(first), reported * 2) is MessageStatus.DELIVERED

    @pytest.mark.parametrize(
        ("current", "reported", "expected"),
        [
            # Documented ways. Source: Twilio, "Outbound message status in status callbacks" (read November 2026).
            ("accepted", "queued", "queued"),
            ("scheduled", "queued", "queued"),
            ("scheduled", "canceled", "canceled"),
            ("queued", "sending", "sending"),
            ("queued", "sent", "sent"),
            ("queued", "failed", "failed"),
            ("sent", "delivered", "delivered"),
            ("sent", "undelivered", "undelivered"),
            ("sent", "partially_delivered", "partially_delivered"),
            ("partially_delivered", "delivered", "delivered"),
            ("delivered", "read", "read"),
            ("sent", "read", "read"),
            ("receiving", "received", "received"),
            # Late, or against the first end.
            ("sent", "queued", "sent"),
            ("delivered", "sent", "delivered"),
            ("delivered", "undelivered", "delivered"),
            ("delivered", "failed", "delivered"),
            ("undelivered", "delivered", "undelivered"),
            ("failed", "sent", "failed"),
            ("failed", "read", "failed"),
            ("canceled", "sent", "canceled"),
            ("read", "delivered", "read"),
            ("accepted", "scheduled", "accepted"),
        ],
    )
    def test_case(self, current: str, reported: str, expected: str) -> None:
        assert next_status(MessageStatus(current), MessageStatus(reported)) == expected


class TestSqlLeadsFurther:
    async def test_agrees_with_next_status_for_all_pairs(self, database: Database) -> None:
        words = [*MessageStatus, None, "teleported", "DELIVERED", ""]
        pairs = list(product(MessageStatus, words))

        rows = await database.pool.fetch(
            f"SELECT {sql_leads_further('current', 'reported')} "
            "FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS t(current, reported, n) ORDER BY n",
            [str(current) for current, _ in pairs],
            [None if word is None else str(word) for _, word in pairs],
        )

        for (current, word), (leads_further,) in zip(pairs, rows, strict=True):
            reported = word if isinstance(word, MessageStatus) else None
            assert leads_further is (next_status(current, reported) is not current), (current, word)

"""What a stuck head does to those behind it, by client."""

import pytest

from sms_foundation.messaging.outbound.policy import WAIT, SendingPolicy, skip_after


class TestIsSkipped:
    @pytest.mark.parametrize(
        ("client", "skipped_after"),
        [("hasty", 1), ("patient", None), ("anybody", 3)],
    )
    def test_after_so_many_attempts_of_a_client(self, client: str, skipped_after: int | None) -> None:
        policy = SendingPolicy(skip_after_default=3, skip_after={"hasty": 1, "patient": WAIT})

        answers = [policy.is_skipped(client, attempts) for attempts in range(1, 6)]

        assert answers == [skipped_after is not None and n >= skipped_after for n in range(1, 6)]

    def test_never_by_default(self) -> None:
        assert not any(SendingPolicy().is_skipped("anybody", attempts) for attempts in range(100))


class TestSkipAfter:
    def test_reads_what_the_settings_allow(self) -> None:
        assert [skip_after(text) for text in ("wait", "skip:1", "skip:12")] == [WAIT, 1, 12]

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.core.work.retry import BASE, CAP, backoff

ATTEMPTS = st.integers(1, 40_000)
SPREAD = st.floats(0, 1)


class TestBackoff:
    def test_begins_at_the_base_and_doubles(self) -> None:
        assert [backoff(n, spread=1) / BASE for n in (1, 2, 3, 4, 5)] == [1, 2, 4, 8, 16]

    def test_is_half_of_that_at_least(self) -> None:
        assert [backoff(n, spread=0) / BASE for n in (1, 2, 3)] == [0.5, 1, 2]

    @given(ATTEMPTS, SPREAD)
    def test_stays_between_half_the_base_and_the_cap(self, attempts: int, spread: float) -> None:
        assert BASE / 2 <= backoff(attempts, spread=spread) <= CAP

    @given(ATTEMPTS, SPREAD)
    def test_never_shrinks_with_the_attempts(self, attempts: int, spread: float) -> None:
        assert backoff(attempts, spread=spread) <= backoff(attempts + 1, spread=spread)

    @given(ATTEMPTS, SPREAD, SPREAD)
    def test_never_shrinks_with_the_spread(self, attempts: int, one: float, other: float) -> None:
        assert backoff(attempts, spread=min(one, other)) <= backoff(attempts, spread=max(one, other))

    @given(ATTEMPTS)
    def test_reaches_the_cap_and_stays_there(self, attempts: int) -> None:
        assert backoff(attempts + 11, spread=1) == CAP

    def test_what_failed_together_does_not_come_back_together(self) -> None:
        pauses = {backoff(5) for _ in range(100)}

        assert len(pauses) > 90
        assert all(BASE * 8 <= pause <= BASE * 16 for pause in pauses)

    def test_base_and_cap_can_be_chosen(self) -> None:
        base, cap = timedelta(milliseconds=100), timedelta(seconds=1)

        assert [backoff(n, base=base, cap=cap, spread=1).total_seconds() for n in range(1, 6)] == [
            0.1,
            0.2,
            0.4,
            0.8,
            1,
        ]

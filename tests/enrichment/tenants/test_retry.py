import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.enrichment.tenants.errors import AttemptFailedError, Failure
from sms_foundation.enrichment.tenants.retry import RetryPolicy, repeat_while_useful


def failure(reason: Failure = Failure.SERVER_ERROR, retry_after_s: float | None = None) -> AttemptFailedError:
    return AttemptFailedError(reason, detail=503, retry_after_s=retry_after_s)


class Flaky:
    """Fails so many times, then succeeds."""

    def __init__(self, failures: int, error: AttemptFailedError | None = None) -> None:
        self.failures = failures
        self.error = error or failure()
        self.attempts = 0

    async def __call__(self) -> str:
        self.attempts += 1
        if self.attempts <= self.failures:
            raise self.error
        return "done"


class TestDelay:
    @given(
        st.integers(1, 3),
        st.none() | st.floats(0, 3600),
        st.sampled_from([reason for reason in Failure if reason is not Failure.CREDENTIALS_REFUSED]),
        st.randoms(use_true_random=False),
    )
    def test_always_between_100_ms_and_2_s(
        self, failed_attempts: int, retry_after_s: float | None, reason: Failure, chance: random.Random
    ) -> None:
        delay_s = RetryPolicy().delay_s(failed_attempts, failure(reason, retry_after_s), chance.uniform)

        assert delay_s is not None
        assert 0.1 <= delay_s <= 2.0
        assert delay_s >= min(retry_after_s or 0, 2.0)

    def test_ceiling_grows_from_attempt_to_attempt_up_to_2_s(self) -> None:
        ceilings = [RetryPolicy().delay_s(n, failure(), max) for n in (1, 2, 3)]

        assert ceilings == [0.4, 1.6, 2.0]

    def test_fourth_failure_is_the_last(self) -> None:
        assert RetryPolicy().delay_s(4, failure(), random.uniform) is None

    def test_refused_key_is_not_tried_again(self) -> None:
        assert RetryPolicy().delay_s(1, failure(Failure.CREDENTIALS_REFUSED), random.uniform) is None


class TestRepeatWhileUseful:
    @pytest.mark.parametrize("failures", [0, 1, 3])
    async def test_up_to_three_failures_are_overcome(self, time, failures: int) -> None:
        flaky = Flaky(failures)

        assert await repeat_while_useful(flaky, policy=RetryPolicy(), timing=time.timing) == "done"
        assert len(time.sleeps) == failures

    async def test_four_attempts_in_all(self, time) -> None:
        flaky = Flaky(99)

        with pytest.raises(AttemptFailedError):
            await repeat_while_useful(flaky, policy=RetryPolicy(), timing=time.timing)
        assert flaky.attempts == 4
        assert len(time.sleeps) == 3, "no wait after the last attempt"

    async def test_hopeless_is_not_repeated(self, time) -> None:
        flaky = Flaky(99)

        with pytest.raises(AttemptFailedError):
            await repeat_while_useful(flaky, policy=RetryPolicy(), timing=time.timing, is_hopeless=lambda: True)
        assert flaky.attempts == 1

    async def test_other_errors_pass_at_once(self, time) -> None:
        async def broken() -> None:
            raise LookupError

        with pytest.raises(LookupError):
            await repeat_while_useful(broken, policy=RetryPolicy(), timing=time.timing)
        assert time.sleeps == []

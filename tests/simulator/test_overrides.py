import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.simulator.overrides import ConnectionOverrides, RetryOn, split_overrides

URL = "https://sms.example.org/webhook?x=1"


class TestSplitOverrides:
    def test_without_a_fragment_twilios_defaults_hold(self) -> None:
        url, overrides = split_overrides(URL)
        assert url == URL
        assert overrides == ConnectionOverrides(5000, 15000, 15000, 1, frozenset({RetryOn.CONNECT}))

    def test_every_override_is_read_and_the_fragment_is_cut_off(self) -> None:
        url, overrides = split_overrides(f"{URL}#ct=200&rt=300&tt=400&rc=5&rp=4xx,5xx,rt&sni=y&e=ashburn")
        assert url == URL
        policy = frozenset({RetryOn.CLIENT_ERROR, RetryOn.SERVER_ERROR, RetryOn.READ})
        assert overrides == ConnectionOverrides(200, 300, 400, 5, policy)

    def test_all_is_every_kind_of_failure(self) -> None:
        assert split_overrides(f"{URL}#rp=all")[1].retry_policy == frozenset(RetryOn)

    @pytest.mark.parametrize(
        "fragment",
        [
            "rc=6",
            "rc=-1",
            "rc=x",
            "rc=",
            "rc=²",
            "ct=99",
            "ct=10001",
            "rt=15001",
            "tt=99",
            "tt=" + "9" * 5000,
            "rp=6xx",
        ],
    )
    def test_what_is_out_of_range_leaves_the_default(self, fragment: str) -> None:
        assert split_overrides(f"{URL}#{fragment}")[1] == ConnectionOverrides()

    @given(st.text())
    def test_any_fragment_gives_limits_within_the_documented_ranges(self, fragment: str) -> None:
        url, overrides = split_overrides(f"{URL}#{fragment}")
        assert url == URL
        assert 100 <= overrides.connect_timeout_ms <= 10_000
        assert 100 <= overrides.read_timeout_ms <= 15_000
        assert 100 <= overrides.total_timeout_ms <= 15_000
        assert 0 <= overrides.retry_count <= 5
        assert overrides.retry_policy

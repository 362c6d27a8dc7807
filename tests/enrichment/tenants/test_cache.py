import random

from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.enrichment.tenants.cache import MatchCache
from sms_foundation.enrichment.tenants.timing import Timing


class TestMatchCache:
    def test_remembers_until_it_expires(self, time) -> None:
        cache = MatchCache(ttl_s=60, max_entries=10, timing=time.timing)
        cache.put("a", "tenant")

        time.advance(59.9)
        assert cache.find("a") == "tenant"
        time.advance(0.1)
        assert cache.find("a") is None

    @given(st.randoms(use_true_random=False))
    def test_lifetime_is_jittered_by_a_fifth(self, chance: random.Random) -> None:
        now_s = [0.0]
        cache = MatchCache(ttl_s=60, max_entries=1, timing=Timing(monotonic=lambda: now_s[0], uniform=chance.uniform))
        cache.put("a", "tenant")

        now_s[0] = 47.9
        assert cache.find("a") == "tenant"
        now_s[0] = 72.1
        assert cache.find("a") is None

    def test_least_recently_used_goes_first(self, time) -> None:
        cache = MatchCache(ttl_s=60, max_entries=2, timing=time.timing)
        cache.put("a", "1")
        cache.put("b", "2")
        cache.find("a")
        cache.put("c", "3")

        assert [cache.find(key) for key in "abc"] == ["1", None, "3"]

    def test_newer_match_replaces_the_old(self, time) -> None:
        cache = MatchCache(ttl_s=60, max_entries=1, timing=time.timing)
        cache.put("a", "1")
        cache.put("a", "2")

        assert cache.find("a") == "2"

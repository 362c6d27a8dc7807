"""Which rule decides about a number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.auth.numbers.matching import Decision, RuleSet, is_whole_number, parse_prefix

PHONE = "+14155550123"
digits = st.text("01", min_size=0, max_size=5)
prefixes = digits.map("+1{}".format)
rule_sets = st.dictionaries(prefixes, st.booleans(), max_size=12)


class TestDecide:
    def test_without_rules_every_number_may_be_texted(self) -> None:
        assert RuleSet([]).decide(PHONE) == Decision(is_allowed=True, prefix=None)

    def test_a_denied_beginning_denies_what_begins_with_it_and_nothing_else(self) -> None:
        rules = RuleSet([("+1900", False)])
        assert rules.decide("+19005550123") == Decision(is_allowed=False, prefix="+1900")
        assert rules.decide("+1900").is_allowed is False
        assert rules.decide("+190") == Decision(is_allowed=True, prefix=None)
        assert rules.decide(PHONE).is_allowed

    def test_as_soon_as_something_is_allowed_only_that_is(self) -> None:
        rules = RuleSet([("+1", True), ("+1900", False)])
        assert rules.decide(PHONE) == Decision(is_allowed=True, prefix="+1")
        assert rules.decide("+447700900123") == Decision(is_allowed=False, prefix=None)

    def test_the_longest_prefix_decides(self) -> None:
        rules = RuleSet([("+1", True), ("+1900", False), ("+19005", True), ("+19005550123", False)])
        assert [rules.decide(number).is_allowed for number in (PHONE, "+19001", "+19005", "+19005550123")] == [
            True,
            False,
            True,
            False,
        ]

    def test_a_rule_for_a_short_code_is_about_that_code_alone(self) -> None:
        rules = RuleSet([("4155", False), ("14155", False)])
        assert not rules.decide("4155").is_allowed
        assert all(rules.decide(address).is_allowed for address in ("41555", "415", PHONE, "+4155"))

    def test_a_rule_for_numbers_is_not_about_short_codes(self) -> None:
        assert RuleSet([("+4", False)]).decide("4155") == Decision(is_allowed=True, prefix=None)

    def test_a_number_behind_a_channel_is_that_number(self) -> None:
        rules = RuleSet([("+1415", False)])
        assert not rules.decide(f"whatsapp:{PHONE}").is_allowed

    @given(rule_sets, digits.map("+1{}".format))
    def test_decides_as_somebody_who_reads_all_rules_would(self, rules: dict[str, bool], number: str) -> None:
        about = [prefix for prefix in rules if number.startswith(prefix)]
        decision = RuleSet(rules.items()).decide(number)
        if about:
            longest = max(about, key=len)
            assert decision == Decision(rules[longest], longest)
        else:
            assert decision == Decision(True not in rules.values(), None)

    @given(rule_sets, st.text(max_size=20))
    def test_any_text_has_a_decision(self, rules: dict[str, bool], text: str) -> None:
        RuleSet(rules.items()).decide(text)


class TestParsePrefix:
    @pytest.mark.parametrize(
        ("text", "prefix"),
        [
            ("+1", "+1"),
            ("+1900", "+1900"),
            (" +1 (415) 555-0123 ", PHONE),
            ("+49.170", "+49170"),
            ("+123456789012345", "+123456789012345"),
            ("4155", "4155"),
            ("12345678", "12345678"),
        ],
    )
    def test_reads_numbers_beginnings_of_numbers_and_short_codes(self, text: str, prefix: str) -> None:
        assert parse_prefix(text) == prefix

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "+",
            "+0123",
            "+1234567890123456",
            "12",
            "123456789",
            "++1",
            "1+",
            "abc",
            "+1a",
            "+١٢٣",
            "+1\x00",
            "*",
            "%",
        ],
    )
    def test_anything_else_is_an_error(self, text: str) -> None:
        with pytest.raises(ValueError, match="must be"):
            parse_prefix(text)


class TestIsWholeNumber:
    @pytest.mark.parametrize(("prefix", "is_whole"), [("+190055", False), ("+1900555", True), ("415555", False)])
    def test_what_may_be_a_phone_is_private(self, prefix: str, is_whole: bool) -> None:
        assert is_whole_number(prefix) is is_whole

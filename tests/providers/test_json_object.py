import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.providers.base import Price
from sms_foundation.providers.json_object import JsonObject, read_price

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "0", "a.b"]), inner),
)
ANSWER = JsonObject(
    {
        "id": " SM1\0 ",
        "messages": [{"message-id": "A1", "part": 2}, {"message-id": "A2"}],
        "a.b": "dotted",
        "number": 21211,
        "digits": "0012",
        "none": None,
        "true": True,
        "half": 1.5,
    }
)


class TestLookingInto:
    def test_path_goes_through_objects_and_lists(self) -> None:
        assert ANSWER.text("messages.1.message-id") == "A2"
        assert ANSWER.text("messages.2.message-id") == ""
        assert ANSWER.text("a.b") == "dotted"
        assert ANSWER.child("messages.0").whole_number("part") == 2

    def test_text_is_trimmed_and_holds_no_nul(self) -> None:
        assert ANSWER.text("id") == "SM1\ufffd"
        assert ANSWER.exact_text("id") == " SM1\ufffd "

    def test_number_reads_as_text_and_digits_as_a_number(self) -> None:
        assert ANSWER.text("number") == "21211"
        assert ANSWER.exact_text("number") is None
        assert ANSWER.whole_number("digits") == 12

    @pytest.mark.parametrize("path", ["none", "true", "half", "messages", "absent", "id.x", "messages.x", ""])
    def test_wrong_type_counts_as_absent(self, path: str) -> None:
        assert ANSWER.text(path) == ""
        assert ANSWER.exact_text(path) is None
        assert ANSWER.whole_number(path) is None

    @pytest.mark.parametrize("value", [None, {}, "x", [1], [{}, None]])
    def test_only_a_list_of_objects_has_children(self, value: object) -> None:
        assert JsonObject({"messages": value}).children("messages") is None

    @pytest.mark.parametrize("text", ["1e3", "9" * 10, "", "-", "--1", "²", "٣"])
    def test_what_only_looks_like_a_whole_number_is_none(self, text: str) -> None:
        assert JsonObject({"n": text}).whole_number("n") is None

    @given(st.dictionaries(st.text(max_size=3), anything), st.text(".ab0", max_size=8))
    def test_no_path_into_anything_fails(self, fields: dict[str, object], path: str) -> None:
        answer = JsonObject(fields)

        assert "\0" not in answer.text(path)
        answer.whole_number(path)
        answer.child(path)
        answer.children(path)


class TestRaw:
    @given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), st.text(st.characters(codec="utf-8"))))
    def test_is_all_of_it_without_nul(self, fields: dict[str, str]) -> None:
        raw = JsonObject(fields).raw()

        assert "\\u0000" not in raw or "\\\\u0000" in raw
        assert json.loads(raw) == {
            name.replace("\0", "\ufffd"): value.replace("\0", "\ufffd") for name, value in fields.items()
        } or any("\0" in name for name in fields)

    def test_absurd_depth_leaves_nothing_rather_than_an_error(self) -> None:
        value: object = 1
        for _ in range(600):
            value = [value]

        assert JsonObject({"a": value}).raw() == "{}"


class TestReadPrice:
    @pytest.mark.parametrize(
        ("amount", "micros"),
        [
            ("-0.00750", 7500),
            ("0.0333", 33300),
            (0.051, 51000),
            (1, 1_000_000),
            ("0", 0),
            (" 0.1 ", 100_000),
            ("1e-9999999999", 0),
        ],
    )
    def test_is_in_millionths_and_never_negative(self, amount: object, micros: int) -> None:
        assert read_price(amount, "usd") == Price(micros, "USD")

    @pytest.mark.parametrize("amount", [None, "", "free", "NaN", "Infinity", "1e9", "-1e9999999", True, [], {}, "1,5"])
    def test_anything_else_is_not_told(self, amount: object) -> None:
        assert read_price(amount, "USD") is None

    @pytest.mark.parametrize("currency", ["", "US", "EURO", "€€€", "1.0"])
    def test_amount_without_currency_is_no_price(self, currency: str) -> None:
        assert read_price("0.1", currency) is None

    @given(st.floats() | st.text() | st.integers())
    def test_never_fails(self, amount: object) -> None:
        price = read_price(amount, "EUR")

        assert price is None or 0 <= price.micros <= 10**12

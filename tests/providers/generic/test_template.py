import json
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.providers.calls import json_body
from sms_foundation.providers.generic.template import (
    MESSAGE_PLACEHOLDERS,
    check_placeholders,
    fill_json,
    fill_text,
    fill_url,
    message_values,
)
from tests.providers.contract import SMS

TEXT = st.text(st.characters(codec="utf-8"))


def values(**changes: str) -> dict[str, str]:
    return {**message_values(SMS, status_url="https://example.com/s"), **changes}


class TestMessageValues:
    def test_every_placeholder_has_one(self) -> None:
        assert set(values()) == MESSAGE_PLACEHOLDERS


class TestFillText:
    def test_what_looks_like_a_placeholder_in_a_value_stays(self) -> None:
        assert fill_text("{body}{reference}", values(body="{reference}{nope}", reference="r")) == "{reference}{nope}r"

    def test_other_braces_stay(self) -> None:
        assert fill_text("{} {{to}} {To} { to }", values(to="+1")) == "{} {+1} {To} { to }"


class TestFillJson:
    @given(TEXT)
    def test_any_value_arrives_as_it_is_and_changes_nothing_else(self, body: str) -> None:
        filled = fill_json({"a": ["{body}", {"b": "x{body}y"}], "{body}": 1}, values(body=body))

        assert json.loads(json_body([filled]))[0] == {"a": [body, {"b": f"x{body}y"}], "{body}": 1}


class TestFillUrl:
    @given(TEXT)
    def test_any_value_stays_one_step_of_a_path(self, body: str) -> None:
        url = urlsplit(fill_url("https://example.com/a/{body}/z", values(body=body)))

        assert [unquote(step) for step in url.path.split("/")] == ["", "a", body, "z"]

    @given(TEXT)
    def test_any_value_stays_one_parameter(self, body: str) -> None:
        url = urlsplit(fill_url("https://example.com/a?first={body}&second=2", values(body=body)))

        assert (url.netloc, url.path, url.fragment) == ("example.com", "/a", "")
        assert parse_qs(url.query, keep_blank_values=True) == {"first": [body], "second": ["2"]}


class TestCheckPlaceholders:
    def test_names_the_unknown_one_and_those_there_are(self) -> None:
        with pytest.raises(ValueError, match=r"\{too\}; there are from, to"):
            check_placeholders({"a": ["{to}", "{too}"]}, frozenset({"to", "from"}))

    def test_known_ones_pass(self) -> None:
        check_placeholders(["{to}", 1, None, {"a": "{from} {}"}], frozenset({"to", "from"}))

import json
from base64 import b64encode
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.providers.base import Provider
from sms_foundation.providers.generic.adapter import GenericProvider
from sms_foundation.providers.messagebird.adapter import MessageBirdProvider
from sms_foundation.providers.registry import open_connections, open_provider, parse_provider_configs
from sms_foundation.providers.telnyx.adapter import TelnyxProvider
from sms_foundation.providers.twilio.adapter import TwilioConfig, TwilioProvider
from sms_foundation.providers.vonage.adapter import VonageProvider

TWILIO = {"kind": "twilio", "name": "twilio", "account_sid": "AC1", "auth_token": "s3cret"}
LARGE = 10_000


def parse(*entries: object, **variables: str) -> tuple[object, ...]:
    return parse_provider_configs(json.dumps(entries), variables=variables)


def problem(text: str, **variables: str) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the text is what each test is about
        parse_provider_configs(text, variables=variables)
    return str(caught.value)


def problem_of(*entries: object, **variables: str) -> str:
    return problem(json.dumps(entries), **variables)


class TestParseProviderConfigs:
    @pytest.mark.parametrize("text", ["", " \n", "[]"])
    def test_nothing_is_no_provider(self, text: str) -> None:
        assert parse_provider_configs(text, variables={}) == ()

    def test_two_accounts_of_one_kind_stand_side_by_side_in_their_order(self) -> None:
        first, second = parse({**TWILIO, "name": "twilio-us"}, {**TWILIO, "name": "twilio-eu", "weight": 0})

        assert isinstance(first, TwilioConfig)
        assert isinstance(second, TwilioConfig)
        assert (first.name, first.weight) == ("twilio-us", 100)
        assert (second.name, second.weight) == ("twilio-eu", 0)

    def test_every_kind_is_known_by_its_word(self) -> None:
        assert problem_of({"kind": "pigeon", "name": "p"}) == (
            "[0] p: kind: must be one of twilio, messagebird, vonage, telnyx, http"
        )
        assert "kind: must be one of" in problem_of({"name": "p"})


class TestVariables:
    def test_stand_for_values_wherever_a_string_is(self) -> None:
        [config] = parse(
            {**TWILIO, "auth_token": "${TOKEN}", "senders": ["+1${LAST}", "${LAST}${LAST}"]}, TOKEN="t", LAST="2"
        )

        assert isinstance(config, TwilioConfig)
        assert config.auth_token.get_secret_value() == "t"
        assert config.senders == ("+12", "22")

    def test_missing_ones_are_named_once_and_all_of_them(self) -> None:
        text = problem_of({**TWILIO, "auth_token": "${ONE}", "account_sid": "${TWO}${ONE}"}, THREE="s3cret")

        assert text == "[0] twilio: TWO is not set; [0] twilio: ONE is not set"

    @pytest.mark.parametrize("value", ["${OTHER}", "$${OTHER}", "a${", "\\1\\g<0>", '"}], ['])
    def test_what_is_filled_in_is_taken_as_it_is(self, value: str) -> None:
        [config] = parse({**TWILIO, "auth_token": "${TOKEN}"}, TOKEN=value, OTHER="wrong")

        assert isinstance(config, TwilioConfig)
        assert config.auth_token.get_secret_value() == value


class TestProblems:
    def test_all_are_in_one_line_each_with_its_place(self) -> None:
        text = problem_of({**TWILIO, "weight": -1, "colour": "red"}, {**TWILIO, "api_key_sid": "SK1"})

        assert "\n" not in text
        assert "[0] twilio: weight: " in text
        assert "[0] twilio: colour: " in text
        assert "[1] twilio: api_key_sid and api_key_secret belong together" in text
        assert "2 have the name twilio" in text

    @pytest.mark.parametrize("text", ['{"s3cret":', "{}", "[1]", '"s3cret"', "s3cret", "null", "[" * LARGE])
    def test_text_that_is_no_list_of_objects(self, text: str) -> None:
        assert "s3cret" not in problem(text)
        assert "JSON" in problem(text)

    @pytest.mark.parametrize(
        "entry",
        [
            {**TWILIO, "name": "s3cret s3cret"},
            {**TWILIO, "account_sid": ["s3cret"]},
            {**TWILIO, "auth_token": {"s3cret": "s3cret"}},
            {**TWILIO, "api_base_url": "ftp://s3cret"},
            {**TWILIO, "messaging_service_sid": "s3cret"},
            {**TWILIO, "kind": "s3cret"},
        ],
    )
    def test_no_value_is_shown(self, entry: object) -> None:
        assert "s3cret" not in problem_of(entry)
        assert "s3cret" not in problem_of(entry, entry)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["twilio", "${X}"]),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(st.sampled_from(["kind", "name", "auth_token", "account_sid", "weight"]), inner)
            ),
        )
    )
    def test_whatever_is_set_is_read_or_refused(self, value: object) -> None:
        with suppress(ValueError):
            parse_provider_configs(json.dumps(value), variables={})


class TestOpenProvider:
    @pytest.mark.parametrize(
        ("entry", "adapter"),
        [
            (TWILIO, TwilioProvider),
            ({"kind": "messagebird", "access_key": "a", "signing_key": "b"}, MessageBirdProvider),
            ({"kind": "vonage", "api_key": "a", "api_secret": "b", "signature_secret": "c"}, VonageProvider),
            ({"kind": "telnyx", "api_key": "a", "public_key": b64encode(bytes(32)).decode()}, TelnyxProvider),
            (
                {"kind": "http", "send_url": "https://sms.example.com/send", "answer": {"message_id_path": "id"}},
                GenericProvider,
            ),
        ],
        ids=lambda value: value["kind"] if isinstance(value, dict) else "",
    )
    async def test_opens_what_is_configured(self, entry: dict[str, object], adapter: type[Provider]) -> None:
        [config] = parse_provider_configs(json.dumps([{**entry, "name": "one"}]), variables={})
        provider = open_provider(config, open_connections(config), base_urls=["https://sms.example.com"])
        try:
            assert type(provider) is adapter
            assert (provider.name, provider.kind) == ("one", entry["kind"])
        finally:
            await provider.aclose()

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.providers.errors import FACTS, ErrorKind, Remedy
from sms_foundation.providers.twilio.errors import kind_of_api_error, kind_of_delivery_error

RETRIED = (
    "14107 21611 21730 20409 20429 30001 30003 30008 30017 30020 30021 30022 30024 30035 30036 30410 30450 35125 "
    "63009 63010 63012 63017 63018 63019 30023 30027 63038"
).split()
AMBIGUOUS = "20500 20503".split()
PERMANENT = (
    "20001 20404 20422 21211 21212 21408 21602 21603 21604 21606 21608 21609 21612 21614 21617 21619 21620 21623 21624 "
    "21701 21702 21703 21704 30010 30011 30012 30013 30014 30015 30016 30018 30019 30028 30029 30030 30031 30032 30033 "
    "30034 30045 35111 35114 35118 35126 30409 63001 63003 63005 63007 63013 63014 63015 63016 63021 63024 63032 63033 "
    "21610 30004 30005 30006 30007"
).split()
ACCOUNT = "20003 20005 20008 20403 30002 30037".split()

codes = st.sampled_from([*RETRIED, *AMBIGUOUS, *PERMANENT, *ACCOUNT]) | st.integers(0, 99999).map(str) | st.text()


class TestTable:
    @pytest.mark.parametrize(
        ("codes", "remedy"),
        [(RETRIED, Remedy.SEND_AGAIN), (AMBIGUOUS, Remedy.LOOK_UP), (PERMANENT, Remedy.GIVE_UP)],
    )
    def test_documented_causes_decide_what_is_to_be_done(self, codes: list[str], remedy: Remedy) -> None:
        assert {code for code in codes if FACTS[kind_of_api_error(code, 400)].remedy is not remedy} == set()

    def test_trouble_with_the_account_opens_the_circuit(self) -> None:
        assert {kind_of_api_error(code, 400) for code in ACCOUNT} == {ErrorKind.ACCOUNT}
        assert FACTS[ErrorKind.ACCOUNT].opens_circuit

    def test_stop_is_an_opt_out_wherever_it_is_told(self) -> None:
        assert kind_of_api_error("21610", 400) is ErrorKind.OPTED_OUT
        assert kind_of_delivery_error("21610") is ErrorKind.OPTED_OUT


class TestKindOfApiError:
    @pytest.mark.parametrize("code", ["21000", "21215", "21660", "21999"])
    def test_unknown_code_of_messaging_is_permanent(self, code: str) -> None:
        assert kind_of_api_error(code, 400) is ErrorKind.INVALID_REQUEST
        assert kind_of_api_error(code, 401) is ErrorKind.INVALID_REQUEST

    @pytest.mark.parametrize("code", ["", "99999", "21999", "x", "2199", "219999"])
    def test_5xx_with_an_unknown_code_is_ambiguous(self, code: str) -> None:
        assert kind_of_api_error(code, 500) is ErrorKind.UNKNOWN_OUTCOME

    @pytest.mark.parametrize("code", ["", "99999", "21999"])
    def test_429_was_never_processed(self, code: str) -> None:
        assert kind_of_api_error(code, 429) is ErrorKind.RATE_LIMITED

    @given(codes, st.integers(100, 599))
    def test_is_the_same_every_time(self, code: str, status: int) -> None:
        assert kind_of_api_error(code, status) is kind_of_api_error(code, status)


class TestKindOfDeliveryError:
    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            ("30003", ErrorKind.UNAVAILABLE),
            ("30004", ErrorKind.INVALID_RECIPIENT),
            ("30005", ErrorKind.INVALID_RECIPIENT),
            ("30006", ErrorKind.INVALID_RECIPIENT),
            ("30007", ErrorKind.CONTENT_REJECTED),
            ("30008", ErrorKind.UNAVAILABLE),
            ("30034", ErrorKind.INVALID_SENDER),
        ],
    )
    def test_tells_why_it_did_not_arrive(self, code: str, kind: ErrorKind) -> None:
        assert kind_of_delivery_error(code) is kind

    @pytest.mark.parametrize("code", ["", "0", "30025", "30026", "99999", "thirty"])
    def test_warnings_and_unknown_codes_say_nothing(self, code: str) -> None:
        assert kind_of_delivery_error(code) is None

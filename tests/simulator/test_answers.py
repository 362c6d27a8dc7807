import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.simulator.answers import MAX_TWIML_BYTES, Answer, DebuggerCode, judge_callback, judge_inbound
from sms_foundation.simulator.overrides import RetryOn

EMPTY = b'<?xml version="1.0" encoding="UTF-8"?><Response></Response>'


class TestJudgeInbound:
    @pytest.mark.parametrize("content_type", ["text/xml", "application/xml; charset=utf-8", "TEXT/XML;charset=UTF-8"])
    def test_empty_twiml_is_fine(self, content_type: str) -> None:
        assert judge_inbound(Answer(200, content_type, EMPTY)).code is None

    def test_empty_204_is_fine(self) -> None:
        assert judge_inbound(Answer(204)).code is None

    @pytest.mark.parametrize(
        ("answer", "code"),
        [
            (Answer(200, "application/json", b"{}"), DebuggerCode.INVALID_CONTENT_TYPE),
            (Answer(200, "", EMPTY), DebuggerCode.HTTP_RETRIEVAL_FAILURE),
            (Answer(200, "text/xml", b""), DebuggerCode.DOCUMENT_PARSE_FAILURE),
            (Answer(200, "text/xml", b" \n" + EMPTY), DebuggerCode.DOCUMENT_PARSE_FAILURE),
            (Answer(200, "text/xml", b"<response/>"), DebuggerCode.DOCUMENT_PARSE_FAILURE),
            (Answer(200, "text/xml", b"<Response>" + b" " * MAX_TWIML_BYTES), DebuggerCode.BODY_TOO_LARGE),
            (Answer(403, "application/json", b"{}"), DebuggerCode.HTTP_RETRIEVAL_FAILURE),
            (Answer(307), DebuggerCode.HTTP_RETRIEVAL_FAILURE),
        ],
    )
    def test_what_twilio_complains_about_has_its_code(self, answer: Answer, code: DebuggerCode) -> None:
        verdict = judge_inbound(answer)
        assert verdict.code is code
        assert verdict.reason

    def test_messages_in_the_answer_are_replies(self) -> None:
        body = b"<Response><Message><Body>Ya vamos</Body></Message><Message>Gracias</Message></Response>"
        assert judge_inbound(Answer(200, "text/xml", body)).replies == ("Ya vamos", "Gracias")
        assert judge_inbound(Answer(200, "text/plain", b"On our way")).replies == ("On our way",)

    @given(st.integers(100, 599), st.text(max_size=30), st.binary(max_size=200))
    def test_any_answer_has_a_verdict(self, status_code: int, content_type: str, body: bytes) -> None:
        verdict = judge_inbound(Answer(status_code, content_type, body))
        assert (verdict.code is None) == (verdict.reason is None)


class TestJudgeCallback:
    @pytest.mark.parametrize("answer", [Answer(200), Answer(204), Answer(200, "application/json", b"{}")])
    def test_any_2xx_is_fine(self, answer: Answer) -> None:
        assert judge_callback(answer).code is None

    @pytest.mark.parametrize(
        ("status", "retry_on"), [(404, RetryOn.CLIENT_ERROR), (503, RetryOn.SERVER_ERROR), (302, None)]
    )
    def test_anything_else_is_a_failure_of_its_kind(self, status: int, retry_on: RetryOn | None) -> None:
        verdict = judge_callback(Answer(status))
        assert (verdict.code, verdict.retry_on) == (DebuggerCode.HTTP_RETRIEVAL_FAILURE, retry_on)

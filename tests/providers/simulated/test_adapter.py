"""The provider of test messages: what it says about every number, and that it says the same when asked later."""

import re
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.core.ids import new_id
from sms_foundation.messaging.references import make_reference
from sms_foundation.providers.base import MessageStatus, OutboundSms, Provider, SendReceipt, SentQuery, WebhookRequest
from sms_foundation.providers.errors import ErrorKind, NotAuthenticError, ProviderError
from sms_foundation.providers.registry import parse_provider_configs
from sms_foundation.providers.simulated.adapter import SIMULATED, SimulatedProvider
from sms_foundation.providers.simulated.numbers import FATES

PROVIDERS_PAGE = Path(__file__).parents[3] / "docs/providers.md"
PHONE = "+14155550123"
NUMBERS = [PHONE, *FATES]


@pytest.fixture
def provider() -> Provider:
    return SimulatedProvider()


def sms(recipient: str, *, attempt: int = 1, message_id: UUID | None = None) -> OutboundSms:
    reference = make_reference(message_id or new_id(), attempt)
    return OutboundSms(reference=reference, recipient=recipient, sender="+15005550006", body="Hi")


def query(about: OutboundSms) -> SentQuery:
    return SentQuery(
        reference=about.reference,
        recipient=about.recipient,
        sender=about.sender,
        body=about.body,
        attempted_at=datetime.now(UTC),
    )


async def outcome(provider: Provider, message: OutboundSms) -> SendReceipt | ErrorKind:
    try:
        return await provider.send(message)
    except ProviderError as error:
        return error.kind


class TestSend:
    @given(number=st.integers(10**9, 10**14).map(lambda digits: f"+{digits}"), attempt=st.integers(1, 99))
    async def test_any_other_number_is_delivered_at_once(self, number: str, attempt: int) -> None:
        receipt = await outcome(SimulatedProvider(), sms(number, attempt=attempt))
        assert isinstance(receipt, SendReceipt)
        assert (receipt.status, receipt.event_status) == (MessageStatus.DELIVERED, "delivered")
        assert (receipt.error_code, receipt.price, receipt.num_segments) == (None, None, None)

    @pytest.mark.parametrize(
        ("number", "kind", "code"),
        [
            ("+15005550001", ErrorKind.INVALID_RECIPIENT, "21211"),
            ("+15005550004", ErrorKind.OPTED_OUT, "21610"),
            ("+15005550014", ErrorKind.UNAVAILABLE, "20503"),
            ("+15005550015", ErrorKind.UNKNOWN_OUTCOME, None),
        ],
    )
    async def test_numbers_that_are_not_taken(
        self, provider: Provider, number: str, kind: ErrorKind, code: str | None
    ) -> None:
        for attempt in (1, 2, 3, 6, 50):
            with pytest.raises(ProviderError) as caught:
                await provider.send(sms(number, attempt=attempt))
            assert (caught.value.kind, caught.value.provider_code) == (kind, code)

    async def test_number_that_is_taken_at_the_third_call(self, provider: Provider) -> None:
        results = [await outcome(provider, sms("+15005550013", attempt=attempt)) for attempt in (1, 2, 3)]
        assert results[:2] == [ErrorKind.UNAVAILABLE] * 2
        assert isinstance(results[2], SendReceipt)
        assert results[2].status is MessageStatus.DELIVERED

    async def test_number_that_is_not_reached(self, provider: Provider) -> None:
        receipt = await provider.send(sms("+15005550012"))
        assert (receipt.status, receipt.error_code) == (MessageStatus.UNDELIVERED, "30003")
        assert receipt.error_message

    async def test_number_of_which_nothing_more_is_heard(self, provider: Provider) -> None:
        receipt = await provider.send(sms("+15005550011"))
        assert receipt.status is MessageStatus.SENT
        assert await provider.fetch_status(receipt.provider_message_id) is None

    async def test_every_attempt_has_an_id_of_its_own_that_shows_what_it_is(self, provider: Provider) -> None:
        message_id = new_id()
        ids = {
            (await provider.send(sms(PHONE, attempt=attempt, message_id=each))).provider_message_id
            for attempt in (1, 2, 11)
            for each in (message_id, new_id())
        }
        assert len(ids) == 6
        assert all(re.fullmatch(r"SIM[0-9a-f]{33,37}", each) for each in ids)


class TestFindSent:
    @given(number=st.sampled_from(NUMBERS), attempt=st.integers(1, 8))
    async def test_it_has_exactly_what_it_took_or_gave_no_answer_about(self, number: str, attempt: int) -> None:
        provider = SimulatedProvider()
        message = sms(number, attempt=attempt)
        found = list(await provider.find_sent(query(message)))
        match await outcome(provider, message):
            case SendReceipt() as receipt:
                assert found == [receipt]
            case ErrorKind.UNKNOWN_OUTCOME:
                assert [each.status for each in found] == [MessageStatus.DELIVERED]
            case _:
                assert found == []


class TestEverythingElse:
    async def test_nobody_texts_it_and_it_keeps_nothing(self, provider: Provider) -> None:
        now = datetime.now(UTC)
        assert [each async for each in provider.list_inbound(now, now)] == []
        assert await provider.redact("SIM1") is True
        await provider.aclose()

    def test_it_has_no_webhooks(self, provider: Provider) -> None:
        request = WebhookRequest("POST", "/webhook/simulated/sms", {}, b"")
        assert not provider.webhook_shape.methods
        for read in (provider.read_inbound, provider.read_status):
            with pytest.raises(NotAuthenticError):
                read(request)

    def test_no_configured_provider_can_have_its_name_or_be_of_its_kind(self) -> None:
        twilio = '{"kind": "twilio", "name": "simulated", "account_sid": "AC1", "auth_token": "t"}'
        with pytest.raises(ValueError, match="simulated is not a name to give"):
            parse_provider_configs(f"[{twilio}]", variables={})
        with pytest.raises(ValueError, match="kind: must be one of"):
            parse_provider_configs('[{"kind": "simulated", "name": "other"}]', variables={})
        assert SimulatedProvider.name == SIMULATED == "simulated"

    def test_the_page_about_providers_lists_exactly_its_numbers(self) -> None:
        page = PROVIDERS_PAGE.read_text(encoding="utf-8")
        assert re.findall(r"^\| `(\+\d+)` \|", page, re.MULTILINE) == list(FATES)
        for number, fate in FATES.items():
            if fate.code is not None:
                [row] = [line for line in page.splitlines() if line.startswith(f"| `{number}` |")]
                assert fate.code in row

"""Whoever got hold of one signed webhook, and what they can make of it."""

from collections.abc import Iterator

from sms_foundation.core.config import LOCAL_AUTH_TOKEN
from sms_foundation.providers.twilio.signature import sign, verify_signature
from tests.support.service import BASE_URL, SMS_PATH, STATUS_PATH, Pairs, Service, encode_form, status_form, text_form

SID = "SM" + "0123456789abcdef" * 2
TEXT = "I will pay. Come on Friday, or call me"


def cut_elsewhere(pairs: Pairs) -> Iterator[list[tuple[str, str]]]:
    """Every form with another MessageSid that has the same signature: names and values are signed without separators.

    What comes before MessageSid stays; what follows it is cut at each place, the rest being one name without a value.
    """
    ordered = sorted(set(pairs))
    before = [pair for pair in ordered if pair[0] < "MessageSid"]
    signed = "".join(name + value for name, value in ordered)
    tail = signed[len("".join(name + value for name, value in before)) + len("MessageSid") :]
    for length in range(1, len(tail) + 1):
        rest = [(tail[length:], "")] if tail[length:] else []
        yield [*before, ("MessageSid", tail[:length]), *rest]


class TestReplayedWebhook:
    async def test_cut_elsewhere_makes_no_second_message(self, service: Service) -> None:
        pairs = text_form(SID, TEXT)
        signature = sign(LOCAL_AUTH_TOKEN, BASE_URL + SMS_PATH, pairs)
        await service.post_signed(SMS_PATH, pairs)

        forged = list(cut_elsewhere(pairs))
        genuine_to_the_signature = 0
        for form in forged:
            response = await service.post(SMS_PATH, encode_form(form), signature=signature)
            assert response.status_code in (200, 400, 403)
            genuine_to_the_signature += verify_signature(LOCAL_AUTH_TOKEN, BASE_URL + SMS_PATH, form, signature)

        # The attack is real: the signature alone would have let them all in.
        assert genuine_to_the_signature > 50
        assert await service.database.pool.fetchval("SELECT count(*) FROM sms_messages") == 1

    async def test_cut_elsewhere_makes_no_second_receipt(self, service: Service) -> None:
        await service.text(SID)
        pairs = status_form(SID, "delivered")
        signature = sign(LOCAL_AUTH_TOKEN, BASE_URL + STATUS_PATH, pairs)
        await service.post_signed(STATUS_PATH, pairs)

        for form in cut_elsewhere(pairs):
            await service.post(STATUS_PATH, encode_form(form), signature=signature)

        assert await service.database.pool.fetchval("SELECT count(*) FROM sms_message_status_events") == 1

    async def test_is_of_no_use_at_the_other_webhook(self, service: Service) -> None:
        pairs = [*text_form(SID, TEXT), ("MessageStatus", "failed")]
        signature = sign(LOCAL_AUTH_TOKEN, BASE_URL + SMS_PATH, pairs)

        response = await service.post(STATUS_PATH, encode_form(pairs), signature=signature)

        assert response.status_code == 403

"""The rule by which a status is held against what was said about it, on its own."""

from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.doctor.explaining import Event, MessageFacts, Said, find_contradiction
from sms_foundation.messaging.states import FINAL, next_status
from sms_foundation.providers.base import MessageStatus
from sms_foundation.providers.messagebird.webhook import STATUSES as MESSAGEBIRD
from sms_foundation.providers.status_words import our_words

REPORTED = st.lists(st.sampled_from(sorted(our_words())), max_size=8)


def named(status: MessageStatus, *words: str, meanings: dict[str, MessageStatus] | None = None) -> MessageFacts:
    """A message that its provider has, and has reported these about."""
    return MessageFacts(
        status=status,
        is_inbound=False,
        is_named=True,
        has_ended=status in FINAL,
        has_person=True,
        events=[Event(Said.REPORT, word, float(at)) for at, word in enumerate(words)],
        last_attempt=None,
        words=our_words() if meanings is None else meanings,
    )


@given(begun=st.sampled_from([MessageStatus.SENDING, MessageStatus.UNKNOWN, MessageStatus.QUEUED]), words=REPORTED)
def test_whatever_order_reports_come_in_where_they_lead_is_explained(begun: MessageStatus, words: list[str]) -> None:
    status = begun
    for word in words:
        status = next_status(status, our_words()[word])

    assert find_contradiction(named(status, *sorted(words))) is None


@given(words=REPORTED, last=st.sampled_from(sorted(FINAL)))
def test_an_end_that_nobody_has_reported_never_is(words: list[str], last: MessageStatus) -> None:
    others = [word for word in words if our_words()[word] is not last]

    assert find_contradiction(named(last, *others)) is not None


def test_words_mean_what_their_provider_means_by_them() -> None:
    """`delivery_failed` is no word of ours: one that was read as such left its message behind."""
    meanings = dict(MESSAGEBIRD)

    assert find_contradiction(named(MessageStatus.UNDELIVERED, "delivery_failed", meanings=meanings)) is None
    assert find_contradiction(named(MessageStatus.SENT, "sent", "delivery_failed", meanings=meanings)) == (
        "sent, though it was reported undelivered"
    )

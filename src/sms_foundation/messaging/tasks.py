"""The background work of messaging."""

from datetime import timedelta

from sms_foundation.core.db import Database
from sms_foundation.core.work.queue import Work
from sms_foundation.core.work.runner import Done, Outcome, Retry
from sms_foundation.messaging.delivery import NO_WORDS, WordsOfProviders, match_receipt
from sms_foundation.messaging.receipt_spans import record_matched

# A callback may overtake the commit of its message by seconds, or belong to a message sent by other means for good.
_GIVE_UP_AFTER_ATTEMPTS = 10


class ReceiptMatching:
    """Handler of `jobs.RECEIPT_UNMATCHED`; `words` as for `match_receipt`."""

    def __init__(self, database: Database, words: WordsOfProviders = NO_WORDS) -> None:
        self._database = database
        self._words = words

    async def match(self, work: Work) -> Outcome:
        """Apply a callback that came before its message; after about half an hour it stays as an unmatched event."""
        async with self._database.transaction() as connection:
            is_matched = await match_receipt(connection, work.ref_id, self._words)
        if is_matched:
            await record_matched(self._database, work.ref_id)
        if is_matched or work.attempts >= _GIVE_UP_AFTER_ATTEMPTS:
            return Done()
        return Retry("no message with this provider id yet", timedelta(seconds=1))

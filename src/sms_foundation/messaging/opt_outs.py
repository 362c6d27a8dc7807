"""Who must not be texted any more, as the providers tell us: kept per phone and per number of ours.

A provider blocks only its own sends. A message that went through another provider, or from the same number moved there,
would reach somebody who said STOP: so dispatching asks here first.
"""

from collections.abc import Sequence
from uuid import UUID

from sms_foundation.core.db import Connection
from sms_foundation.messaging.tombstones import sql_has_person, sql_is_erased
from sms_foundation.providers.base import StatusReport
from sms_foundation.providers.errors import ErrorKind

# Twilio's own lists for long codes; only a text that is nothing else counts.
# Source: https://help.twilio.com/articles/223134027 and https://www.twilio.com/docs/messaging/tutorials/advanced-opt-out
STOP_WORDS = frozenset("STOP UNSUBSCRIBE END QUIT STOPALL REVOKE OPTOUT CANCEL".split())
START_WORDS = frozenset("START UNSTOP YES".split())

_RECORD_OF_MESSAGES = f"""
INSERT INTO sms_opt_outs (phone_number_canonical, sender, source, provider)
SELECT DISTINCT c.phone_number_canonical, coalesce(m.from_number, ''), 'provider', m.provider
FROM sms_messages AS m JOIN sms_conversations AS c ON c.id = m.conversation_id
WHERE m.id = ANY($1) AND NOT m.is_test  -- where nobody was asked, nobody has said anything
  AND {sql_has_person("c")}
ON CONFLICT DO NOTHING
"""  # noqa: S608  # put together from constants only
_MESSAGES_OF_REPORTS = """
SELECT m.id FROM unnest($1::text[], $2::text[]) AS r(provider, provider_message_id)
JOIN sms_messages AS m USING (provider, provider_message_id)
"""
_RECORD = """
INSERT INTO sms_opt_outs (phone_number_canonical, sender, source) VALUES ($1, $2, 'keyword') ON CONFLICT DO NOTHING
"""
# One phone's words one after the other. Or a START that has looked for later words already would forget the STOP that
# comes and is recorded before it goes on.
_LOCK_PHONE = "SELECT pg_advisory_xact_lock(hashtextextended('keyword of ' || $1, 0))"
# Texts are looked at in any order, and again when something fails: the last one counts. One that was erased meanwhile
# was taken at its word before that; it knows nothing of what the person has said since, in a new conversation.
_IS_LAST_WORD = f"""
SELECT NOT EXISTS (SELECT FROM sms_messages AS m WHERE m.id = $1 AND {sql_is_erased("m")})
   AND NOT EXISTS (
    SELECT FROM sms_messages AS m JOIN sms_messages AS later USING (conversation_id)
    WHERE m.id = $1 AND later.conversation_seq > m.conversation_seq AND later.direction = 'inbound'
      AND later.to_number = m.to_number AND upper(btrim(later.message_content, E' \\t\\r\\n')) = ANY($2))
"""  # noqa: S608
# All of them: sending asks for the phone alone, and a provider may have recorded another sender (a Messaging Service).
_FORGET = "DELETE FROM sms_opt_outs WHERE phone_number_canonical = $1"


def is_opt_out(report: StatusReport) -> bool:
    """Tell whether a status callback says that the recipient wants no more messages."""
    return report.error_kind is ErrorKind.OPTED_OUT


async def record_opt_outs_of(connection: Connection, message_ids: Sequence[UUID]) -> None:
    """Remember that the recipients of these messages want no more from the number they were sent from. Idempotent."""
    if message_ids:
        await connection.execute(_RECORD_OF_MESSAGES, message_ids)


async def record_opt_outs(connection: Connection, reports: Sequence[StatusReport]) -> None:
    """Do the same for the messages that status callbacks are about."""
    if reports:
        rows = await connection.fetch(
            _MESSAGES_OF_REPORTS,
            [report.provider for report in reports],
            [report.provider_message_id for report in reports],
        )
        await record_opt_outs_of(connection, [row[0] for row in rows])


def is_keyword(text: str) -> bool:
    """Tell whether a text is nothing but a word that starts or stops messages."""
    return text.strip().upper() in STOP_WORDS | START_WORDS


async def apply_keyword(connection: Connection, message_id: UUID, *, phone: str, own_number: str, text: str) -> None:
    """Take STOP and START, texted by `phone` to `own_number`, at their word; any other text changes nothing.

    Needs a transaction. Idempotent, also after a later word of the same phone has been applied, and when the message
    was erased since.
    """
    word = text.strip().upper()
    if word not in STOP_WORDS | START_WORDS:
        return
    await connection.execute(_LOCK_PHONE, phone)
    if not await connection.fetchval(_IS_LAST_WORD, message_id, list(STOP_WORDS | START_WORDS)):
        return
    if word in STOP_WORDS:
        await connection.execute(_RECORD, phone, own_number)
    else:
        await connection.execute(_FORGET, phone)

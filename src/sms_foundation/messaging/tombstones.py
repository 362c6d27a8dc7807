"""What is left of messages and conversations whose person was erased, and how everybody else knows it.

An erased message keeps its ids, times, status, segments and price: the provider's id, so that a repeated webhook is
still a repetition; the rest for the books. Its person's address has become the word `erased`. A conversation keeps its
address until all of its messages are erased, and is filed as `erased:` and its own id then: no number leads to it any
more. So whoever asks for the person behind a conversation gets the person, or knows that there is none.
"""

from typing import Final

ERASED: Final = "erased"
ERASED_PREFIX: Final = "erased:"


def sql_is_erased(message: str) -> str:
    """Return the SQL condition that a row of `sms_messages`, by its alias, is of somebody who was erased."""
    person = f"CASE {message}.direction WHEN 'inbound' THEN {message}.from_number ELSE {message}.to_number END"
    return f"({person} = '{ERASED}')"


def sql_has_person(conversation: str) -> str:
    """Return the SQL condition that a row of `sms_conversations`, by its alias, is of somebody who was not erased."""
    return f"({conversation}.phone_number_canonical NOT LIKE '{ERASED_PREFIX}%')"

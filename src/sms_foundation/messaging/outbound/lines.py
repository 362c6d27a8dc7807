"""Which line a message waits in: its phone's, by priority. Messages of tests have lines, and work, of their own.

So neither waits for the other, a process that knows nothing of tests never gets one to send, and what is wrong with
them is not counted with what is wrong with the others.
"""

from sms_foundation.core.work.queue import Priority
from sms_foundation.messaging.jobs import SEND_MESSAGE, SEND_TEST_MESSAGE

_TEST = "test:"


def order_key(recipient: str, priority: Priority, *, is_test: bool) -> str:
    """Return the name of the line; of those in one, the next is not begun before the first has left it."""
    return f"{_TEST if is_test else ''}{recipient}/{int(priority)}"


def send_kind(*, is_test: bool) -> str:
    """Return the kind of work that sends the message."""
    return SEND_TEST_MESSAGE if is_test else SEND_MESSAGE


def sql_order_key(recipient: str, priority: str, is_test: str) -> str:
    """Return `order_key` as SQL over these columns."""
    return f"concat(CASE WHEN {is_test} THEN '{_TEST}' END, {recipient}, '/', {priority})"


def sql_send_kind(is_test: str) -> str:
    """Return `send_kind` as SQL over this column."""
    return f"CASE WHEN {is_test} THEN '{SEND_TEST_MESSAGE}' ELSE '{SEND_MESSAGE}' END"

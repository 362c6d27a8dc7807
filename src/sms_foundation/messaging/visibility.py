"""What callers see who lack messages:read_content: when, how and with which result, but neither words nor numbers.

Views make answers as if their caller might see everything; here, and nowhere else, it is taken out again.
"""

from collections.abc import Mapping
from typing import Any, Final

from sms_foundation.auth.permissions import Permission
from sms_foundation.auth.principal import principal_of
from sms_foundation.core.phone import mask

_NUMBERS: Final = frozenset({"phone_number_canonical", "phone_number_original", "from_number", "to_number", "sender"})
# error_message as well: providers quote the number or the text in theirs. The code says what went wrong.
# Labels too: callers put names and numbers into them.
_WORDS: Final = frozenset({"message_content", "content", "message", "error_message", "raw_webhook_data", "metadata"})
_MEDIA: Final = frozenset({"media", "media_urls"})


def is_content_hidden(scope: Mapping[str, Any]) -> bool:
    """Tell whether whoever makes this request may not read what messages say."""
    return not principal_of(scope).may(Permission.MESSAGES_READ_CONTENT)


def show(view: dict[str, Any], *, is_hidden: bool) -> dict[str, Any]:
    """Return a conversation or message as its caller may see it, `content_hidden` telling which way."""
    shown: dict[str, Any] = _without_content(view) if is_hidden else view
    shown["content_hidden"] = is_hidden
    return shown


def _without_content(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_content(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {name: _hide(name, each) for name, each in value.items()}


def _hide(name: str, value: Any) -> Any:
    if name in _NUMBERS:
        return None if value is None else mask(value)
    if name in _WORDS:
        return None
    return [] if name in _MEDIA else _without_content(value)

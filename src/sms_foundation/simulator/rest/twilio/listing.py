"""Listing messages: filters, and pages that stay put while new messages come in.

Source: https://www.twilio.com/docs/usage/twilios-response, "list paging information" (November 2026).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import Final
from urllib.parse import urlencode

from sms_foundation.simulator.carrier.messages import Message, MessageStore
from sms_foundation.simulator.rest.twilio.errors import RefusedError, TwilioError
from sms_foundation.simulator.rest.twilio.parameters import PROVIDER, Form
from sms_foundation.simulator.rest.twilio.resource import collection_path, message_resource

_DEFAULT_PAGE_SIZE: Final = 50
_MAX_PAGE_SIZE: Final = 1000
_FILTERS: Final = ("To", "From", "DateSent", "DateSent<", "DateSent>")
_BAD_DATE: Final = TwilioError(20001, "DateSent must be YYYY-MM-DD or YYYY-MM-DDThh:mm:ssZ")
_BAD_PAGE: Final = TwilioError(20006, "Page must be a non-negative number, PageToken one of this list")

Test = Callable[[Message], bool]


@dataclass(frozen=True, slots=True)
class _Page:
    """Which page: its number, its size, and the message it lies next to (by place; None: the newest)."""

    number: int
    size: int
    older_than: int | None = None
    newer_than: int | None = None


def list_messages(store: MessageStore, form: Form, account_sid: str) -> dict[str, object]:
    """Return one page as Twilio writes it, newest first. Raises RefusedError for a filter or page it cannot read."""
    page = _read_page(form)
    fitting = _filter(store, form)
    found, has_more = _cut(fitting, page)
    first = page.number * page.size
    uri = f"{collection_path(account_sid)}.json"
    filters = [(name, value) for name in _FILTERS if (value := form.find(name)) is not None]

    def link(number: int, token: str | None = None) -> str:
        pairs = [*filters, ("PageSize", str(page.size)), ("Page", str(number))]
        return f"{uri}?{urlencode([*pairs, ('PageToken', token)] if token else pairs)}"

    has_previous = bool(found) and page.number > 0
    return {
        "first_page_uri": link(0),
        "end": max(first, first + len(found) - 1),
        "messages": [message_resource(message, account_sid) for message in found],
        "next_page_uri": link(page.number + 1, f"PA{found[-1].place}") if found and has_more else None,
        "page": page.number,
        "page_size": page.size,
        "previous_page_uri": link(page.number - 1, f"PB{found[0].place}") if has_previous else None,
        "start": first,
        "uri": link(page.number, form.find("PageToken")),
    }


def _cut(fitting: Iterable[Message], page: _Page) -> tuple[list[Message], bool]:
    """Return the page and whether older messages follow it."""
    if page.newer_than is not None:
        newer = [message for message in fitting if message.place > page.newer_than]
        return newer[-page.size :], True
    if page.older_than is not None:
        fitting = (message for message in fitting if message.place < page.older_than)
    elif page.number:
        fitting = islice(fitting, page.number * page.size, None)
    found = list(islice(fitting, page.size + 1))
    return found[: page.size], len(found) > page.size


def _read_page(form: Form) -> _Page:
    number, size, token = form.get("Page") or "0", form.get("PageSize"), form.get("PageToken")
    if not _is_count(number) or (token and (token[:2] not in ("PA", "PB") or not _is_count(token[2:]))):
        raise RefusedError(_BAD_PAGE)
    size_given = int(size) if _is_count(size) else _DEFAULT_PAGE_SIZE
    place = int(token[2:]) if token else None
    return _Page(
        int(number),
        min(max(size_given, 1), _MAX_PAGE_SIZE),
        older_than=place if token.startswith("PA") else None,
        newer_than=place if token.startswith("PB") else None,
    )


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 12


def _filter(store: MessageStore, form: Form) -> Iterable[Message]:
    recipient, sender = form.get("To") or None, form.get("From") or None
    tests: list[Test] = [] if sender is None else [lambda message: message.sender == sender]
    # Twilio's names read `DateSent<=...` in a query: the bound itself belongs to the result.
    if value := form.get("DateSent"):
        start, end = _span(value)
        tests.append(lambda message: message.sent_at is not None and start <= message.sent_at < end)
    if value := form.get("DateSent<"):
        _, before = _span(value)
        tests.append(lambda message: message.sent_at is not None and message.sent_at < before)
    if value := form.get("DateSent>"):
        after, _ = _span(value)
        tests.append(lambda message: message.sent_at is not None and message.sent_at >= after)
    messages = store.list_newest(PROVIDER, recipient=recipient)
    return (message for message in messages if all(test(message) for test in tests)) if tests else messages


def _span(text: str) -> tuple[datetime, datetime]:
    """Return the moments a filter's value covers: a day, or one second."""
    try:
        if len(text) == len("2026-11-20"):
            day = datetime.combine(date.fromisoformat(text), time(), UTC)
            return day, day + timedelta(days=1)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise RefusedError(_BAD_DATE) from None
    moment = moment.replace(tzinfo=moment.tzinfo or UTC, microsecond=0)
    return moment, moment + timedelta(seconds=1)

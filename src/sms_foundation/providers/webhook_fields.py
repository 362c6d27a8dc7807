"""A webhook's fields, wherever it carries them: in the query, a form or a JSON body."""

from typing import Final

import orjson

from sms_foundation.providers.base import WebhookRequest
from sms_foundation.providers.errors import WebhookParseError
from sms_foundation.providers.form import Pairs, parse_form, printable
from sms_foundation.providers.json_object import JsonObject

FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"

# Longer ones are no address or id of any kind, and would not fit an index.
_LONGEST_ID: Final = 128
_LONGEST_ADDRESS: Final = 320
_LONGEST_WORD: Final = 128
_SHORTEST_NUMBER: Final = 7  # shorter digits are a short code, which has no country


def query_fields(path_and_query: str) -> JsonObject:
    """Return the parameters in the query of a URL or of its path."""
    return pairs_as_object(_query_pairs(path_and_query))


def body_fields(request: WebhookRequest) -> JsonObject:
    """Return the fields of a JSON or form body, none of an empty one.

    Raises WebhookParseError for JSON that is no object.
    """
    if not request.body:
        return JsonObject({})
    return parse_json(request.body) if _is_json(request) else pairs_as_object(parse_form(request.body))


def all_fields(request: WebhookRequest) -> JsonObject:
    """Return the fields of the query and the body together; of the same name the body's counts.

    Raises WebhookParseError for JSON that is no object.
    """
    return JsonObject({**query_fields(request.path_and_query).fields, **body_fields(request).fields})


def flat_pairs(request: WebhookRequest) -> Pairs:
    """Return what a provider signs that signs names and values: of a GET the query, else the form or JSON body.

    Bytes that are not UTF-8 survive as `surrogateescape`. Of a JSON body only texts and whole numbers at the top count;
    of anything that is no object there are no pairs.
    """
    if request.method == "GET":
        return _query_pairs(request.path_and_query)
    if not _is_json(request):
        return parse_form(request.body)
    try:
        fields = parse_json(request.body).fields
    except WebhookParseError:
        return []
    return [(name, str(value)) for name, value in fields.items() if type(value) in (str, int)]


def pairs_as_object(pairs: Pairs) -> JsonObject:
    """Return decoded form pairs by name. A repeated name holds a list, so that it is nobody's text."""
    collected: dict[str, list[str]] = {}
    for name, value in pairs:
        collected.setdefault(printable(name), []).append(printable(value))
    return JsonObject({name: values[0] if len(values) == 1 else values for name, values in collected.items()})


def parse_json(body: bytes) -> JsonObject:
    """Return `body` as a JSON object. Raises WebhookParseError when it is none."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise WebhookParseError("malformed_json", "the body is not JSON") from None
    if not isinstance(value, dict):
        raise WebhookParseError("malformed_json", "the body is not a JSON object")
    return JsonObject(value)


def message_id(fields: JsonObject, path: str) -> str:
    """Return the provider's id of a message. Raises WebhookParseError when it is missing or absurdly long."""
    text = fields.text(path)
    if not text:
        raise WebhookParseError("missing_message_id", f"{path} is missing")
    if len(text) > _LONGEST_ID:
        raise WebhookParseError("bad_message_id", f"{path} is longer than {_LONGEST_ID} characters")
    return text


def is_message_id(text: str) -> bool:
    """Tell whether an answer's id can be one that we keep."""
    return 0 < len(text) <= _LONGEST_ID


def sender_address(fields: JsonObject, path: str) -> str:
    """Return who sent a message. Raises WebhookParseError when it is missing, without visible characters, or too long.

    Controls and direction marks alone would leave nothing to file the conversation under.
    """
    text = fields.text(path)
    if not any(each.isprintable() and each != " " for each in text):
        raise WebhookParseError("missing_from", f"{path} is missing")
    return _short_enough(text, path)


def recipient_address(fields: JsonObject, path: str) -> str:
    """Return whom a message was for, "" when not told. Raises WebhookParseError when it is absurdly long."""
    return _short_enough(fields.text(path), path)


def status_word(fields: JsonObject, path: str) -> str:
    """Return the provider's word for a status, in lower case. Raises WebhookParseError when there is none."""
    word = fields.text(path).lower()
    if not word or len(word) > _LONGEST_WORD:
        raise WebhookParseError("missing_status", f"{path} is missing")
    return word


def without_plus(address: str) -> str:
    """Return `address` as providers want it that know numbers as mere digits; names stay as they are."""
    return address.removeprefix("+")


def with_plus(address: str) -> str:
    """Return `address` in E.164 when it is the digits of a full number; short codes and names stay as they are."""
    is_number = address.isascii() and address.isdigit() and len(address) >= _SHORTEST_NUMBER
    return f"+{address}" if is_number else address


def _query_pairs(path_and_query: str) -> Pairs:
    return parse_form(path_and_query.partition("?")[2].encode("utf-8", "surrogateescape"))


def _is_json(request: WebhookRequest) -> bool:
    return request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower() == JSON.encode()


def _short_enough(address: str, path: str) -> str:
    if len(address) > _LONGEST_ADDRESS:
        raise WebhookParseError("bad_address", f"{path} is longer than {_LONGEST_ADDRESS} characters")
    return address

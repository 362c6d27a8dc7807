"""Twilio's error codes and what each of them means to us.

The same dictionary serves two places: an answer to an API call, and `ErrorCode` of a message that failed on its way.
Source: https://www.twilio.com/docs/api/errors and the pages of the single codes (read November 2026); what is to be
retried is our reading of the causes given there. Twilio may change causes, and asks not to rely on finer distinctions.
"""

from collections.abc import Mapping
from typing import Final

from sms_foundation.providers.calls import kind_of_status
from sms_foundation.providers.errors import ErrorKind

_CODES: Final[Mapping[ErrorKind, tuple[int, ...]]] = {
    # 20429: too many concurrent requests, "never processed and always safe to retry". 14107, 21611, 30001, 30022, 63017
    # and 63018: queues and rates of a sender; 30023, 30027 and 63038: its daily limit.
    ErrorKind.RATE_LIMITED: (14107, 20429, 21611, 30001, 30022, 30023, 30027, 63017, 63018, 63038),
    # Passing troubles of a phone, carrier or channel: 30003 phone switched off or out of reach, 30008 unknown, 30036
    # validity over, 30450 blocked for minutes.
    ErrorKind.UNAVAILABLE: (
        *(20409, 21730, 30003, 30008, 30017, 30020, 30021, 30024, 30035, 30036, 30410, 30450),
        *(35125, 63009, 63010, 63012, 63019),
    ),
    # Twilio's own 500 and 503: the message may exist.
    ErrorKind.UNKNOWN_OUTCOME: (20500, 20503),
    # 20003 wrong credentials, 20005 account not active, 20008 test credentials, 20403 forbidden, 30002 suspended, 30037
    # outbound messaging disabled.
    ErrorKind.ACCOUNT: (20003, 20005, 20008, 20403, 30002, 30037),
    ErrorKind.OPTED_OUT: (21610,),
    # 21211 no number, 21612 not reachable from this sender, 21614 no mobile number, 30004 blocked, 30005 unknown, 30006
    # landline, 63xxx the same for channels.
    ErrorKind.INVALID_RECIPIENT: (21211, 21612, 21614, 30004, 30005, 30006, 63003, 63014, 63024, 63032, 63033),
    # 21212 no sender, 21603 none given, 21606 not ours, 2170x Messaging Service missing or without numbers, 30032
    # toll-free not verified, 30033 campaign suspended, 30034 not registered.
    ErrorKind.INVALID_SENDER: (21212, 21603, 21606, 21701, 21702, 21703, 21704, 30032, 30033, 30034, 63001, 63007),
    # 30007 filtered by Twilio or a carrier, 30038 one-time passwords filtered, 63013 against a channel's policy.
    ErrorKind.CONTENT_REJECTED: (30007, 30038, 63013),
    # What is wrong with the request, or not enabled for the account (21408 country, 21608 trial): no retry helps.
    ErrorKind.INVALID_REQUEST: (
        *(20001, 20404, 20422, 21408, 21602, 21604, 21608, 21609, 21617, 21619, 21620, 21623, 21624),
        *(30010, 30011, 30012, 30013, 30014, 30015, 30016, 30018, 30019, 30028, 30029, 30030, 30031, 30044, 30045),
        *(30409, 35111, 35114, 35118, 35126, 63005, 63015, 63016, 63021),
    ),
}
_KINDS: Final = {str(code): kind for kind, codes in _CODES.items() for code in codes}


def kind_of_api_error(code: str, status: int) -> ErrorKind:
    """Return what an answer with this code ("" for none) and HTTP status means for the message it refused.

    Since July 2024 Twilio splits 21211 and its neighbours into ever finer codes, so that an unknown 21xxx is taken for
    one more reason why this request can never succeed; of any other unknown code the HTTP status decides.
    Source: https://www.twilio.com/en-us/changelog/updates-to-the-error-code-dictionary-to-clarify-number-validatio
    """
    known = _KINDS.get(code)
    if known is not None:
        return known
    if _is_of_messaging(code) and 400 <= status < 500 and status != 429:
        return ErrorKind.INVALID_REQUEST
    return kind_of_status(status)


def kind_of_delivery_error(code: str) -> ErrorKind | None:
    """Return why a message that Twilio had taken did not arrive, None for a code that says nothing known to us.

    30025 and 30026 are mere warnings and therefore not known.
    """
    return _KINDS.get(code)


def _is_of_messaging(code: str) -> bool:
    return len(code) == 5 and code.startswith("21") and code.isascii() and code.isdigit()

"""What an answer means, by the configured tables; without them by the HTTP status alone."""

from collections.abc import Mapping

from sms_foundation.core.http import HttpResponse
from sms_foundation.providers.calls import kind_of_status, refusal
from sms_foundation.providers.errors import ErrorKind, ProviderError
from sms_foundation.providers.generic.config import AnswerConfig
from sms_foundation.providers.json_object import JsonObject


def refusal_of(response: HttpResponse, answer: JsonObject, config: AnswerConfig) -> ProviderError | None:
    """Return why a send was refused, None when it was not.

    A configured code decides first, because some providers answer 200 to everything; then the HTTP status: any 2xx is a
    success, 4xx and 5xx mean what `calls.kind_of_status` says (5xx: nobody knows) unless configured otherwise.
    """
    code = answer.text(config.code_path) if config.code_path else ""
    kind = config.kinds_by_code.get(code) or _kind_by_status(response.status, config.kinds_by_status)
    if kind is None:
        return None
    text = answer.text(config.text_path) if config.text_path else ""
    return refusal(response, kind, code=code, text=text)


def _kind_by_status(status: int, kinds: Mapping[int, ErrorKind]) -> ErrorKind | None:
    return None if 200 <= status < 300 else kinds.get(status, kind_of_status(status))

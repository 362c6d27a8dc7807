"""The Collections Monitor's dialect: one question, one spelling of a number."""

from typing import Final
from urllib.parse import quote

import orjson
import structlog

from sms_foundation.core.http import HttpClient, HttpResponse
from sms_foundation.core.phone import mask
from sms_foundation.enrichment.tenants.errors import Failure
from sms_foundation.enrichment.tenants.remote import RemoteService, ServiceName

log = structlog.get_logger(__name__)

_LONGEST_TENANT_ID: Final = 255
_NO_SUCH_SPELLING: Final = frozenset({400, 422})


class MonitorClient:
    """Asks `GET {base_url}/tenants/lookup?phone=V`. Close `http` yourself; it should be used for nothing else."""

    def __init__(self, http: HttpClient, *, base_url: str, api_key: str | None = None) -> None:
        self._service = RemoteService(http, name=ServiceName.MONITOR, base_url=base_url, api_key=api_key)

    async def find_tenant(self, phone: str) -> str | None:
        """Return the id of the tenant that the Monitor knows under this very spelling, None if it knows none.

        404, 204, an empty body and a null or blank `tenant_id` mean none; so do 400 and 422, with which it refuses a
        spelling. Raises AttemptFailedError for everything that is no answer.
        """
        response = await self._service.request("GET", f"/tenants/lookup?phone={quote(phone, safe='')}")
        if response.status in _NO_SUCH_SPELLING:
            log.warning("tenants.monitor.spelling_refused", status=response.status, phone=mask(phone))
            return None
        if response.status in (204, 404):
            return None
        if response.status != 200:
            raise self._service.failed(Failure.UNEXPECTED_ANSWER, detail=response.status)
        return self._read_tenant_id(response)

    def _read_tenant_id(self, response: HttpResponse) -> str | None:
        if not response.body.strip():
            return None
        try:
            answer = orjson.loads(response.body)
        except orjson.JSONDecodeError:
            raise self._service.failed(Failure.UNEXPECTED_ANSWER, detail="not_json") from None
        if not answer and isinstance(answer, dict | None):
            return None
        match answer:
            case {"tenant_id": None}:
                return None
            case {"tenant_id": bool()}:
                pass  # an int to Python, but no id
            case {"tenant_id": int(number)}:
                return str(number)
            case {"tenant_id": str(tenant_id)} if not tenant_id.strip():
                return None
            case {"tenant_id": str(tenant_id)} if tenant_id.isprintable() and len(tenant_id) <= _LONGEST_TENANT_ID:
                return tenant_id
        raise self._service.failed(Failure.UNEXPECTED_ANSWER, detail="no_tenant_id")

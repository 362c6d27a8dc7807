"""Telling the tenant profile service which language a tenant writes in."""

from urllib.parse import quote

import orjson
import structlog

from sms_foundation.core.http import HttpClient
from sms_foundation.enrichment.tenants import metrics
from sms_foundation.enrichment.tenants.errors import (
    AttemptFailedError,
    ProfileRejectedError,
    ProfileUnavailableError,
)
from sms_foundation.enrichment.tenants.metrics import ProfileOutcome
from sms_foundation.enrichment.tenants.remote import RemoteService, ServiceName
from sms_foundation.enrichment.tenants.retry import RetryPolicy, repeat_while_useful
from sms_foundation.enrichment.tenants.timing import REAL_TIME, Timing

log = structlog.get_logger(__name__)


class TenantProfile:
    """Puts `{base_url}/tenants/{tenant_id}/language`. Close `http` yourself; it should be used for nothing else."""

    def __init__(
        self,
        http: HttpClient,
        *,
        base_url: str,
        api_key: str | None = None,
        policy: RetryPolicy | None = None,
        timing: Timing = REAL_TIME,
    ) -> None:
        self._service = RemoteService(http, name=ServiceName.PROFILE, base_url=base_url, api_key=api_key)
        self._policy = policy or RetryPolicy()
        self._timing = timing

    async def put_language(self, tenant_id: str, language: str) -> None:
        """Store the tenant's language (`en`, `es` or `pt`); a second identical call changes nothing.

        Raises ProfileUnavailableError after 4 attempts without an answer, ProfileRejectedError when the service knows
        no such tenant or refuses the language (any other 4xx).
        """
        path = f"/tenants/{quote(tenant_id, safe='')}/language"
        body = orjson.dumps({"language": language})

        async def put() -> int:
            response = await self._service.request("PUT", path, json=body)
            return response.status

        try:
            status = await repeat_while_useful(put, policy=self._policy, timing=self._timing)
        except AttemptFailedError as failure:
            _count(ProfileOutcome.UNAVAILABLE)
            log.warning(
                "tenants.profile.unavailable", tenant_id=tenant_id, reason=failure.reason, detail=failure.detail
            )
            raise ProfileUnavailableError(failure.reason, retry_after_s=failure.retry_after_s) from None
        if status >= 400:
            _count(ProfileOutcome.REJECTED)
            log.warning("tenants.profile.rejected", tenant_id=tenant_id, status=status)
            raise ProfileRejectedError(status)
        _count(ProfileOutcome.STORED)


def _count(outcome: ProfileOutcome) -> None:
    metrics.PROFILE_UPDATES.labels(outcome=outcome).inc()

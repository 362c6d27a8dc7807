import json

import pytest
from structlog.testing import capture_logs

from sms_foundation.enrichment.tenants.errors import Failure, ProfileRejectedError, ProfileUnavailableError
from sms_foundation.enrichment.tenants.profile import TenantProfile
from tests.loopback import reply

UPDATES = "sms_tenant_profile_updates_total"


class TestPutLanguage:
    @pytest.mark.parametrize("status", [200, 201, 204])
    async def test_puts_the_language(self, serve, http, counted, status: int) -> None:
        async with serve(reply(status)) as server:
            with counted(UPDATES, outcome="stored"):
                await TenantProfile(http, base_url=server.base_url).put_language("t-1", "es")

        request = server.received[0]
        assert (request.method, request.target) == ("PUT", "/tenants/t-1/language")
        assert request.headers["content-type"] == "application/json"
        assert json.loads(request.body) == {"language": "es"}

    async def test_tenant_id_stays_one_path_segment(self, serve, http) -> None:
        async with serve(reply(200)) as server:
            await TenantProfile(http, base_url=server.base_url + "/v1/").put_language("a/b?c=%20ñ", "pt")

        assert server.targets == ["/v1/tenants/a%2Fb%3Fc%3D%2520%C3%B1/language"]

    async def test_is_repeated_until_it_works(self, serve, http, time) -> None:
        async with serve(reply(500), None, reply(429, retry_after="1"), reply(204)) as server:
            await TenantProfile(http, base_url=server.base_url, timing=time.timing).put_language("t-1", "es")

        assert [round(delay, 2) for delay in time.sleeps] == [0.25, 0.85, 1.05]

    async def test_four_attempts_then_later(self, serve, http, time, counted) -> None:
        async with serve(reply(503, retry_after="90")) as server:
            profile = TenantProfile(http, base_url=server.base_url, timing=time.timing)
            with counted(UPDATES, outcome="unavailable"), pytest.raises(ProfileUnavailableError) as caught:
                await profile.put_language("t-1", "es")

        assert (caught.value.reason, caught.value.retry_after_s) == (Failure.SERVER_ERROR, 90)
        assert len(server.received) == 4
        assert max(time.sleeps) <= 2

    @pytest.mark.parametrize("status", [400, 404, 409, 422])
    async def test_refusal_is_final(self, serve, http, counted, status: int) -> None:
        async with serve(reply(status)) as server:
            profile = TenantProfile(http, base_url=server.base_url)
            with counted(UPDATES, outcome="rejected"), capture_logs(), pytest.raises(ProfileRejectedError) as caught:
                await profile.put_language("t-1", "es")

        assert caught.value.status == status
        assert len(server.received) == 1

    @pytest.mark.parametrize("status", [401, 403])
    async def test_refused_key_is_not_final(self, serve, http, status: int) -> None:
        async with serve(reply(status)) as server:
            with pytest.raises(ProfileUnavailableError) as caught:
                await TenantProfile(http, base_url=server.base_url, api_key="k").put_language("t-1", "es")

        assert caught.value.reason is Failure.CREDENTIALS_REFUSED
        assert len(server.received) == 1

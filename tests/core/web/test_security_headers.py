"""What every answer tells browsers, and which pages may call the API from one."""

import httpx
import pytest

from sms_foundation.core.config import Settings, load_settings
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.core.errors import StartupError
from tests.support.service import Service, make_settings, running_service

CONSOLE = "https://console.example.com"
ANSWERS = ["/health/live", "/nowhere", "/v1/sms", "/openapi.json", "/metrics", "/conversations/+14155550100"]


class TestSecurityHeaders:
    @pytest.mark.parametrize("path", ANSWERS)
    async def test_stand_on_every_answer_whatever_its_status(self, service: Service, path: str) -> None:
        headers = (await service.client.get(path)).headers

        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["strict-transport-security"].startswith("max-age=31536000")
        assert headers["cache-control"] == "no-store"

    @pytest.mark.parametrize("path", ["/v1/sms/send", "/webhook/twilio/sms"])
    async def test_stand_on_answers_in_front_of_the_framework(self, service: Service, path: str) -> None:
        response = await service.client.post(path, content=b"{")

        assert response.status_code >= 400
        assert response.headers["x-content-type-options"] == "nosniff"

    async def test_documentation_pages_may_load_what_they_need_and_nothing_may_frame_them(
        self, service: Service
    ) -> None:
        policy = (await service.client.get("/docs")).headers["content-security-policy"]

        assert "script-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net;" in policy
        assert policy.endswith("frame-ancestors 'none'")

    async def test_https_is_insisted_on_only_where_it_is_there(
        self, database_url: DatabaseUrl, database: Database
    ) -> None:
        async with running_service(make_settings(public_base_url="http://sms.test"), database_url, database) as service:
            assert "strict-transport-security" not in (await service.client.get("/health/live")).headers


class TestOrigins:
    @pytest.fixture
    def settings(self) -> Settings:
        return make_settings(cors_allowed_origins=f"{CONSOLE}, https://other.example.com/")

    @pytest.fixture
    def api(self, service: Service) -> httpx.AsyncClient:
        return service.client

    @pytest.mark.parametrize("origin", [CONSOLE, "https://other.example.com"])
    @pytest.mark.parametrize("path", ["/v1/sms/send", "/v1/sms"])
    async def test_a_listed_page_may_ask_with_a_key(self, api: httpx.AsyncClient, origin: str, path: str) -> None:
        asked = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,idempotency-key,content-type",
        }

        answer = await api.options(path, headers=asked)

        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, origin)
        assert "access-control-allow-credentials" not in answer.headers

    async def test_a_listed_page_can_read_what_scripts_need(self, api: httpx.AsyncClient) -> None:
        answer = await api.get("/v1/sms", headers={"Origin": CONSOLE})

        assert answer.headers["access-control-allow-origin"] == CONSOLE
        assert {"X-Request-ID", "Retry-After", "X-Idempotent-Replayed", "RateLimit-Remaining"} <= set(
            answer.headers["access-control-expose-headers"].split(", ")
        )

    async def test_any_other_page_is_told_nothing(self, api: httpx.AsyncClient) -> None:
        answer = await api.get("/v1/sms", headers={"Origin": "https://evil.example.com"})

        assert "access-control-allow-origin" not in answer.headers

    async def test_without_any_listed_nothing_is_allowed(self, database_url: DatabaseUrl, database: Database) -> None:
        async with running_service(make_settings(), database_url, database) as service:
            answer = await service.client.get("/health/live", headers={"Origin": CONSOLE})

        assert "access-control-allow-origin" not in answer.headers

    def test_any_page_is_allowed_on_a_developers_machine_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert make_settings(app_env="local").allowed_origins == ("*",)
        assert make_settings(app_env="development").allowed_origins == ()
        assert make_settings(app_env="development", cors_allowed_origins="*").allowed_origins == ("*",)
        monkeypatch.setenv("APP_ENV", "staging")
        monkeypatch.setenv("CORS_ALLOWED_ORIGINS", "https://a.example.com,*")
        with pytest.raises(StartupError, match=r"CORS_ALLOWED_ORIGINS=\*"):
            load_settings()

    async def test_a_page_never_gets_the_open_access_of_the_machine_it_is_shown_on(
        self, database_url: DatabaseUrl, database: Database
    ) -> None:
        """Any page in the developer's browser could otherwise do everything, and read the answers."""
        settings = make_settings(app_env="local", cors_allowed_origins="*")
        async with running_service(settings, database_url, database) as service:
            strange = await service.client.get("/v1/sms", headers={"Origin": "https://evil.example.com"})
            rebound = await service.client.get("/v1/sms", headers={"Host": "evil.example.com"})
            own = await service.client.get("/v1/sms", headers={"Origin": "http://localhost:8000"})

        assert (strange.status_code, rebound.status_code, own.status_code) == (401, 401, 200)

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from sms_foundation.core.http import create_http_client
from sms_foundation.enrichment.tenants.errors import AttemptFailedError, Failure
from sms_foundation.enrichment.tenants.remote import RemoteService, ServiceName, parse_retry_after
from tests.loopback import reply

NOW = datetime(2026, 11, 20, 10, 0, 0, tzinfo=UTC)


def make_service(http, base_url: str, api_key: str | None = None) -> RemoteService:
    return RemoteService(http, name=ServiceName.MONITOR, base_url=base_url, api_key=api_key)


class TestParseRetryAfter:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("7", 7.0),
            ("0", 0.0),
            ("999999999999", 3600.0),
            ("Fri, 20 Nov 2026 10:00:30 GMT", 30.0),
            ("Fri, 20 Nov 2026 09:00:00 GMT", 0.0),
            ("Fri, 20 Nov 2099 09:00:00 GMT", 3600.0),
            (None, None),
            ("", None),
            ("-1", None),
            ("soon", None),
            ("٣", None),
            ("Fri, 20 Nov 2026 10:00:30 -0000", None),
        ],
    )
    def test_seconds_or_a_date_within_an_hour(self, value: str | None, expected: float | None) -> None:
        assert parse_retry_after(value, now=NOW) == expected

    @given(st.text())
    def test_never_raises(self, value: str) -> None:
        seconds = parse_retry_after(value, now=NOW)

        assert seconds is None or 0 <= seconds <= 3600


class TestRequest:
    @pytest.mark.parametrize("status", [200, 201, 204, 400, 404, 410, 422])
    async def test_answer_about_what_was_asked_is_returned(self, serve, http, status: int) -> None:
        async with serve(reply(status)) as server:
            response = await make_service(http, server.base_url).request("GET", "/x")

        assert response.status == status

    @pytest.mark.parametrize(
        ("status", "reason"),
        [
            (302, Failure.REDIRECTED),
            (304, Failure.REDIRECTED),
            (401, Failure.CREDENTIALS_REFUSED),
            (403, Failure.CREDENTIALS_REFUSED),
            (408, Failure.SERVER_ERROR),
            (425, Failure.RATE_LIMITED),
            (429, Failure.RATE_LIMITED),
            (500, Failure.SERVER_ERROR),
            (503, Failure.SERVER_ERROR),
            (599, Failure.SERVER_ERROR),
        ],
    )
    async def test_failure_is_counted_and_raised_with_its_reason(
        self, serve, http, counted, status: int, reason: Failure
    ) -> None:
        is_counted = counted("sms_tenant_service_failures_total", service="monitor", reason=reason)
        async with serve(reply(status)) as server:
            with is_counted, pytest.raises(AttemptFailedError) as caught:
                await make_service(http, server.base_url).request("GET", "/x")

        assert caught.value.reason is reason
        assert caught.value.detail == status

    async def test_hang_up_is_no_response(self, serve, http) -> None:
        async with serve(None) as server:
            with pytest.raises(AttemptFailedError) as caught:
                await make_service(http, server.base_url).request("GET", "/x")

        assert (caught.value.reason, caught.value.detail) == (Failure.NO_RESPONSE, "disconnected")

    async def test_silence_is_no_response(self, serve) -> None:
        async with create_http_client(read_timeout_s=0.02) as http, serve(b"") as server:
            with pytest.raises(AttemptFailedError) as caught:
                await make_service(http, server.base_url).request("GET", "/x")

        assert (caught.value.reason, caught.value.detail) == (Failure.NO_RESPONSE, "timeout")

    async def test_nobody_listening_is_not_sent(self, serve, http) -> None:
        async with serve(reply(200)) as server:
            base_url = server.base_url
        with pytest.raises(AttemptFailedError) as caught:
            await make_service(http, base_url).request("GET", "/x")

        assert (caught.value.reason, caught.value.detail) == (Failure.NOT_SENT, "connect_failed")

    async def test_retry_after_is_handed_on(self, serve, http) -> None:
        async with serve(reply(503, retry_after="17")) as server:
            with pytest.raises(AttemptFailedError) as caught:
                await make_service(http, server.base_url).request("GET", "/x")

        assert caught.value.retry_after_s == 17

    @pytest.mark.parametrize(("api_key", "expected"), [("k3y", "Bearer k3y"), (None, None)])
    async def test_key_is_sent_as_bearer(self, serve, http, api_key: str | None, expected: str | None) -> None:
        async with serve(reply(200)) as server:
            await make_service(http, server.base_url + "/", api_key).request("GET", "/x")

        assert server.received[0].headers.get("authorization") == expected
        assert server.targets == ["/x"]

    async def test_refused_key_is_logged_once_until_it_works_again(self, serve, http) -> None:
        async with serve(reply(401), reply(403), reply(200), reply(401)) as server:
            service = make_service(http, server.base_url, "s3cret")
            with capture_logs() as logs:
                for _ in range(2):
                    with pytest.raises(AttemptFailedError) as caught:
                        await service.request("GET", "/x")
                assert len(logs) == 1
                await service.request("GET", "/x")
                with pytest.raises(AttemptFailedError):
                    await service.request("GET", "/x")

        assert caught.value.retry_after_s == 60
        assert [entry["log_level"] for entry in logs] == ["error", "error"]
        assert "s3cret" not in str(logs) + repr(caught.value)

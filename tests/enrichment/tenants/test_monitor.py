import pytest
from structlog.testing import capture_logs

from sms_foundation.enrichment.tenants.errors import AttemptFailedError, Failure
from sms_foundation.enrichment.tenants.monitor import MonitorClient
from tests.loopback import reply


class TestFindTenant:
    @pytest.mark.parametrize(
        ("phone", "target"),
        [
            ("+14155550123", "/tenants/lookup?phone=%2B14155550123"),
            ("(415) 555-0123", "/tenants/lookup?phone=%28415%29%20555-0123"),
            ("a&b=c/ñ", "/tenants/lookup?phone=a%26b%3Dc%2F%C3%B1"),
        ],
    )
    async def test_phone_is_encoded(self, serve, http, phone: str, target: str) -> None:
        async with serve(reply(404)) as server:
            await MonitorClient(http, base_url=server.base_url).find_tenant(phone)

        assert server.targets == [target]

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            (b'{"tenant_id": "tenant-7"}', "tenant-7"),
            (b'{"tenant_id": 7, "name": "x"}', "7"),
            (b'{"tenant_id": 0}', "0"),
            ('{"tenant_id": "niño 7"}'.encode(), "niño 7"),
        ],
    )
    async def test_match(self, serve, http, body: bytes, expected: str) -> None:
        async with serve(reply(200, body)) as server:
            assert await MonitorClient(http, base_url=server.base_url).find_tenant("1") == expected

    @pytest.mark.parametrize(
        "answer",
        [
            reply(404, b'{"detail": "no such number"}'),
            reply(404, b"<html>"),
            reply(204),
            reply(200),
            reply(200, b" \n"),
            reply(200, b"null"),
            reply(200, b"{}"),
            reply(200, b'{"tenant_id": null}'),
            reply(200, b'{"tenant_id": ""}'),
            reply(200, b'{"tenant_id": "  "}'),
            reply(400, b"bad number"),
            reply(422),
        ],
    )
    async def test_not_known(self, serve, http, answer: bytes) -> None:
        async with serve(answer) as server:
            assert await MonitorClient(http, base_url=server.base_url).find_tenant("1") is None

    @pytest.mark.parametrize(
        "answer",
        [
            reply(200, b"<html>maintenance</html>"),
            reply(200, b'{"tenant_id": "trunc'),
            reply(200, b"[]"),
            reply(200, b"0"),
            reply(200, b'"tenant-7"'),
            reply(200, b'[{"tenant_id": "7"}]'),
            reply(200, b'{"error": "database is down"}'),
            reply(200, b'{"tenant_id": true}'),
            reply(200, b'{"tenant_id": 1.5}'),
            reply(200, b'{"tenant_id": ["7"]}'),
            reply(200, b'{"tenant_id": {}}'),
            reply(200, rb'{"tenant_id": "a\u0000b"}'),
            reply(200, rb'{"tenant_id": "a\ud800"}'),
            reply(200, b'{"tenant_id": "' + b"x" * 256 + b'"}'),
            reply(200, b"[" * 5000),
            reply(200, b"\xff\xfe"),
            reply(202, b'{"tenant_id": "7"}'),
            reply(405),
            reply(410),
        ],
    )
    async def test_what_is_no_answer_is_neither_a_match_nor_not_known(self, serve, http, answer: bytes) -> None:
        async with serve(answer) as server:
            with pytest.raises(AttemptFailedError) as caught:
                await MonitorClient(http, base_url=server.base_url).find_tenant("1")

        assert caught.value.reason is Failure.UNEXPECTED_ANSWER

    async def test_refused_spelling_is_logged_without_the_number(self, serve, http) -> None:
        async with serve(reply(422)) as server:
            with capture_logs() as logs:
                await MonitorClient(http, base_url=server.base_url).find_tenant("+14155550123")

        assert [entry["phone"] for entry in logs] == ["***0123"]
        assert "415555" not in str(logs)

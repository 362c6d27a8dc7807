"""What is no form, too large or broken is refused before anything looks into it."""

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from sms_foundation.app import create_app
from sms_foundation.core.config import LOCAL_AUTH_TOKEN, Settings
from sms_foundation.core.db import Database, DatabaseUrl
from sms_foundation.providers.twilio.signature import sign
from tests.support.http_server import HttpServer, serving
from tests.support.service import BASE_URL, SMS_PATH, STATUS_PATH, Service, encode_form, text_form

FORM = "application/x-www-form-urlencoded"
LIMIT = 262_144
TEXT = text_form("SM1", "in pieces")
TEXT_SIGNATURE = sign(LOCAL_AUTH_TOKEN, BASE_URL + SMS_PATH, TEXT)


def refused(outcome: str, kind: str = "sms") -> float:
    labels = {"provider": "twilio", "kind": kind, "outcome": outcome}
    return REGISTRY.get_sample_value("sms_webhooks_total", labels) or 0.0


def signature_of_nothing(path: str = SMS_PATH) -> str:
    """Return the signature that Twilio makes over a bare URL: right for any form without parameters."""
    return sign(LOCAL_AUTH_TOKEN, BASE_URL + path, [])


async def stored(database: Database) -> int:
    count: int = await database.pool.fetchval("SELECT count(*) FROM sms_messages")
    return count


def body_of(size: int) -> bytes:
    """Return a signed-looking text whose form is exactly `size` bytes long."""
    body = encode_form(text_form("SM1", "x"))
    return body + b"x" * (size - len(body))


class TestContentType:
    @pytest.mark.parametrize("path", [SMS_PATH, STATUS_PATH])
    async def test_body_of_another_type_is_refused_although_the_bare_url_is_signed(
        self, service: Service, path: str
    ) -> None:
        body = encode_form(text_form("SM1", "never signed"))

        for content_type in (
            "text/plain",
            "application/json",
            "multipart/form-data; boundary=x",
            "application/x-www-form-urlencoded-not",
            "text/plain; application/x-www-form-urlencoded",
            "",
            ";",
            "\x7f",
        ):
            headers = {"Content-Type": content_type, "X-Twilio-Signature": signature_of_nothing(path)}
            response = await service.client.post(path, content=body, headers=headers)

            assert response.status_code == 415, content_type
            assert response.json()["error"]["code"] == "sms.unsupported_media_type"
        assert await stored(service.database) == 0

    async def test_body_without_a_type_is_refused_and_counted(self, service: Service) -> None:
        before = refused("unsupported_media_type")

        response = await service.client.post(
            SMS_PATH, content=b"MessageSid=SM1", headers={"X-Twilio-Signature": signature_of_nothing()}
        )

        assert response.status_code == 415
        assert refused("unsupported_media_type") == before + 1

    async def test_form_in_any_spelling_is_read(self, service: Service) -> None:
        for content_type in (FORM, f"{FORM};charset=UTF-8", f" {FORM.upper()} ; a=b"):
            response = await service.post(
                SMS_PATH, encode_form(TEXT), signature=TEXT_SIGNATURE, **{"Content-Type": content_type}
            )

            assert response.status_code == 200, content_type


class TestContentEncoding:
    async def test_compressed_body_is_refused(self, service: Service) -> None:
        for encoding in ("gzip", "deflate", "br", "identity, gzip", "x"):
            response = await service.post(
                SMS_PATH,
                gzip.compress(encode_form(TEXT)),
                signature=signature_of_nothing(),
                **{"Content-Encoding": encoding},
            )

            assert response.status_code == 415, encoding

    async def test_body_that_says_it_is_not_compressed_is_read(self, service: Service) -> None:
        response = await service.post(
            SMS_PATH, encode_form(TEXT), signature=TEXT_SIGNATURE, **{"Content-Encoding": "identity"}
        )

        assert response.status_code == 200


class TestMethod:
    @pytest.mark.parametrize("path", [SMS_PATH, STATUS_PATH])
    async def test_other_than_post_is_not_allowed(self, service: Service, path: str) -> None:
        for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", "HEAD"):
            response = await service.client.request(
                method, path, headers={"X-Twilio-Signature": signature_of_nothing(path)}
            )

            assert (response.status_code, response.headers["allow"]) == (405, "POST"), method
            if method != "HEAD":
                assert response.json()["error"]["code"] == "sms.method_not_allowed"

    async def test_path_that_is_not_exactly_ours_is_not_found_and_never_redirected(self, service: Service) -> None:
        for path in (f"{SMS_PATH}/", f"/{SMS_PATH}", "/webhook/twilio", "/webhook/twilio/SMS"):
            response = await service.client.post(f"{BASE_URL}{path}", content=b"")

            assert (response.status_code, response.json()["error"]["code"]) == (404, "sms.not_found"), path


class TestSize:
    async def test_body_of_exactly_the_limit_is_read(self, service: Service) -> None:
        response = await service.post(SMS_PATH, body_of(LIMIT), signature=signature_of_nothing())

        assert response.status_code == 403

    async def test_larger_body_is_refused_and_counted(self, service: Service) -> None:
        before = refused("payload_too_large")

        response = await service.post(SMS_PATH, body_of(LIMIT + 1), signature=signature_of_nothing())

        assert (response.status_code, response.json()["error"]["code"]) == (413, "sms.payload_too_large")
        assert refused("payload_too_large") == before + 1

    async def test_announced_length_is_enough_to_refuse(self, service: Service) -> None:
        async def endless() -> AsyncIterator[bytes]:
            raise AssertionError("the body was read")
            yield b""

        response = await service.client.post(
            SMS_PATH, content=endless(), headers={"Content-Type": FORM, "Content-Length": str(LIMIT + 1)}
        )

        assert response.status_code == 413

    async def test_whatever_length_is_announced_the_limit_holds(self, service: Service) -> None:
        for length in ("1", "0", "-1", "x", "+5", "1e9", "9" * 5000, "00", "1, 2"):
            response = await service.post(
                SMS_PATH, body_of(LIMIT + 1), signature=signature_of_nothing(), **{"Content-Length": length}
            )

            assert response.status_code == 413, length

    async def test_chunked_body_is_read_no_further_than_the_limit(self, service: Service) -> None:
        sent = 0

        async def chunks() -> AsyncIterator[bytes]:
            nonlocal sent
            while sent < 100 * LIMIT:
                sent += 65_536
                yield b"x" * 65_536

        response = await service.client.post(SMS_PATH, content=chunks(), headers={"Content-Type": FORM})

        assert response.status_code == 413
        assert sent <= LIMIT + 2 * 65_536

    async def test_chunked_body_within_the_limit_is_a_body_like_any_other(self, service: Service) -> None:
        body = encode_form(TEXT)

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(body), 7):
                yield body[start : start + 7]

        response = await service.client.post(
            SMS_PATH, content=chunks(), headers={"Content-Type": FORM, "X-Twilio-Signature": TEXT_SIGNATURE}
        )

        assert response.status_code == 200
        assert await service.database.pool.fetchval("SELECT message_content FROM sms_messages") == "in pieces"


class TestOnTheWire:
    """What the HTTP server in front makes of requests that no client library would send."""

    @pytest.fixture
    async def server(self, settings: Settings, database_url: DatabaseUrl) -> AsyncIterator[HttpServer]:
        async with serving(create_app(settings, database_url)) as server:
            yield server

    @staticmethod
    def request(body: bytes, *headers: str, target: str = SMS_PATH) -> bytes:
        lines = [
            f"POST {target} HTTP/1.1",
            "Host: forged.example.net",
            f"Content-Type: {FORM}",
            f"X-Twilio-Signature: {sign(LOCAL_AUTH_TOKEN, BASE_URL + target, TEXT)}",
            *headers,
        ]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body

    async def test_text_is_stored_whatever_host_it_was_sent_to(self, server: HttpServer, database: Database) -> None:
        body = encode_form(TEXT)

        assert await server.send(self.request(body, f"Content-Length: {len(body)}")) == 200
        assert await stored(database) == 1

    async def test_query_reaches_the_signature_byte_for_byte(self, server: HttpServer) -> None:
        body = encode_form(TEXT)
        target = f"{SMS_PATH}?b=%2f%2F+x&a=it's|%zz&b=%C3%B1"
        request = self.request(body, f"Content-Length: {len(body)}", target=target)

        assert await server.send(request) == 200
        assert await server.send(request.replace(b"%2f", b"%2F", 1)) == 403

    async def test_body_longer_than_announced_is_cut_and_so_not_authentic(
        self, server: HttpServer, database: Database
    ) -> None:
        body = encode_form(TEXT)

        # 400 when the server has seen by then that the rest is no request.
        assert await server.send(self.request(body, f"Content-Length: {len(body) - 2}")) in (400, 403)
        assert await stored(database) == 0

    async def test_body_shorter_than_announced_is_never_taken_for_complete(
        self, server: HttpServer, database: Database
    ) -> None:
        body = encode_form(TEXT)
        before = refused("malformed_request")

        status = await server.send(self.request(body, f"Content-Length: {len(body) + 1}"), hang_up=True)

        assert status in (None, 400)
        for _ in range(400):
            if refused("malformed_request") > before:
                break
            await asyncio.sleep(0.01)
        assert refused("malformed_request") == before + 1
        assert await stored(database) == 0

    async def test_contradictory_framing_is_a_bad_request(self, server: HttpServer) -> None:
        for headers in (
            ["Content-Length: -1"],
            ["Content-Length: x"],
            ["Content-Length: 99999999999999999999999999"],
            ["Content-Length: 5", "Content-Length: 6"],
            ["Content-Length: 5", "Transfer-Encoding: chunked"],
            ["Transfer-Encoding: chunked"],
            ["Transfer-Encoding: gzip, chunked"],
        ):
            assert await server.send(self.request(b"zz\r\nBody=x", *headers), hang_up=True) in (None, 400), headers

    async def test_chunks_above_the_limit_are_refused_while_they_come(self, server: HttpServer) -> None:
        chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"

        assert await server.send(self.request(b"", "Transfer-Encoding: chunked"), *[chunk] * 8) == 413

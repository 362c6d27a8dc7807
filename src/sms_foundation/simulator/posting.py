"""One HTTP request as a provider makes it: limits of its own, no redirects, credentials only when asked for.

Built on aiohttp: with 64 posts in flight httpx's pool cost 1.8 to 2.9 ms of CPU per post, a third of a core at the pace
of a demonstration crowd, on a machine that it shares with the service and its database.
"""

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

import aiohttp
from yarl import URL

from sms_foundation.simulator.answers import MAX_TWIML_BYTES, Answer, DebuggerCode, Verdict
from sms_foundation.simulator.overrides import ConnectionOverrides, RetryOn

_MAX_CONNECTIONS = 256
# Shorter than the 5 s after which uvicorn closes an idle connection: reusing one just then would look like a failure.
_KEEP_ALIVE_S = 2.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """What stood before the @ of a webhook URL, decoded."""

    username: str
    password: str

    @property
    def header(self) -> str:
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class NoAnswerError(Exception):
    """No complete HTTP answer came; `verdict` names the reason in Twilio's terms."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


class Poster:
    """A pool of connections; it opens with the first post. Proxies and cookies are not used."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        if self._session is not None:
            await self._session.close()

    async def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        overrides: ConnectionOverrides,
        budget_s: float,
        credentials: Credentials | None = None,
        method: str = "POST",
    ) -> Answer:
        """Send `body` and return the answer, its own body cut after `MAX_TWIML_BYTES` + 1 bytes.

        `url` is sent byte for byte; it holds no credentials and no fragment. `credentials` follow in a second request
        when the first is answered 401 with a Basic challenge. Everything together ends after `budget_s`.
        Raises NoAnswerError.
        """
        try:
            target = URL(url, encoded=True)
            async with asyncio.timeout(budget_s):
                answer, challenge = await self._send_once(method, target, body, headers, overrides)
                if credentials is not None and answer.status_code == 401 and challenge.lower().startswith("basic"):
                    headers = {**headers, "Authorization": credentials.header}
                    answer, _ = await self._send_once(method, target, body, headers, overrides)
                return answer
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            raise NoAnswerError(_judge_failure(error)) from None

    async def _send_once(
        self, method: str, url: URL, body: bytes, headers: Mapping[str, str], overrides: ConnectionOverrides
    ) -> tuple[Answer, str]:
        timeout = aiohttp.ClientTimeout(
            sock_connect=overrides.connect_timeout_ms / 1000, sock_read=overrides.read_timeout_ms / 1000
        )
        async with self._open_session().request(
            method, url, data=body or None, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            content_type = response.headers.get("Content-Type", "")
            answer = Answer(response.status, content_type, await _read_bounded(response))
            return answer, response.headers.get("WWW-Authenticate", "")

    def _open_session(self) -> aiohttp.ClientSession:
        # Not in __init__: a session belongs to the loop that runs when it is made.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_MAX_CONNECTIONS, keepalive_timeout=_KEEP_ALIVE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session


def split_credentials(url: str) -> tuple[str, Credentials | None]:
    """Return `url` without what stands before the @ of its host, and that as credentials."""
    # Cut out of the text: a re-assembled URL could lose a byte of what is configured ("?" before an empty query).
    scheme, separator, rest = url.partition("://")
    userinfo, at, _ = authority_of(url).rpartition("@")
    if not at:
        return url, None
    username, _, password = userinfo.partition(":")
    return scheme + separator + rest[len(userinfo) + 1 :], Credentials(unquote(username), unquote(password))


def reroute(url: str, public_base_url: str, deliver_base_url: str) -> str:
    """Return the URL that is really called for `url`: under `deliver_base_url` what lies under `public_base_url`.

    Both base URLs come without a trailing slash.
    """
    rest = url.removeprefix(public_base_url)
    is_under_public_base = len(rest) < len(url) and rest[:1] in ("", "/", "?")
    return deliver_base_url + rest if is_under_public_base else url


def authority_of(url: str) -> str:
    """Return the text between `://` and the path or query."""
    return url.partition("://")[2].split("/", 1)[0].split("?", 1)[0]


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > MAX_TWIML_BYTES:
            response.close()  # an unread rest must not come back as the next answer
            break
    return bytes(body[: MAX_TWIML_BYTES + 1])


def _judge_failure(error: Exception) -> Verdict:
    """Name in Twilio's terms why no answer came."""
    match error:
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError() | ValueError():
            return Verdict(DebuggerCode.INVALID_URL, "the URL is not a valid http or https URL")
        case aiohttp.ClientConnectorDNSError():
            return Verdict(DebuggerCode.HOST_NOT_FOUND, "the host name was not found", RetryOn.CONNECT)
        case aiohttp.ClientSSLError():
            return Verdict(DebuggerCode.TLS_FAILURE, "TLS could not be agreed on", RetryOn.CONNECT)
        case aiohttp.ConnectionTimeoutError():
            return Verdict(DebuggerCode.CONNECTION_FAILURE, "no connection in time", RetryOn.CONNECT)
        case aiohttp.ClientConnectorError():
            return Verdict(DebuggerCode.CONNECTION_FAILURE, "the connection was refused", RetryOn.CONNECT)
        case TimeoutError():
            return Verdict(DebuggerCode.HTTP_RETRIEVAL_FAILURE, "no complete answer in time", RetryOn.READ)
    # The documentation names no policy for an answer that breaks off; it is read as one that did not come in time.
    return Verdict(DebuggerCode.PROTOCOL_VIOLATION, "the connection broke or spoke no valid HTTP", RetryOn.READ)

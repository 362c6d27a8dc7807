"""`sms-foundation send`."""

import asyncio
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import orjson
import typer

from sms_foundation.core.clock import monotonic
from sms_foundation.core.config import Settings, load_settings
from sms_foundation.core.errors import StartupError
from sms_foundation.core.http import HttpCallError, HttpClient, RequestNotSentError, create_http_client
from sms_foundation.core.ids import new_request_id
from sms_foundation.core.printable import escape_unprintable

commands = typer.Typer(add_completion=False, rich_markup_mode=None)

_LOOK_EVERY_S = 0.1
_GOOD_END = "delivered"
_BAD_ENDS = ("undelivered", "failed", "expired", "canceled")
Json = dict[str, Any]


@commands.command()
def send(
    message: Annotated[str, typer.Argument(help="What the text says.")],
    to: Annotated[str, typer.Option(help="The phone: +14155550123, or any spelling of the default region.")],
    wait: Annotated[
        float, typer.Option(min=0, max=3600, help="Show each step until it is delivered, for so many seconds; 0: none.")
    ] = 30.0,
    sender: Annotated[
        str | None, typer.Option("--from", help="Number or name of ours. [default: the provider's first]")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="Only through this one. [default: whose turn it is]")] = None,
    priority: Annotated[str, typer.Option(help="urgent, normal or bulk.")] = "normal",
    url: Annotated[
        str | None, typer.Option(help="Where the service listens. [default: http://HOST:PORT of the settings]")
    ] = None,
) -> None:
    """Send a text through the running service and watch it go out.

    Uses the service's API, with the key in SMS_API_KEY if that is set. Exit status 1 means: refused, or failed.

    Example: sms-foundation send --to +14155550123 "Your plumber comes at 10."
    """
    settings = load_settings()
    body = {"to": to, "message": message, "sender_id": sender, "provider": provider, "priority": priority}
    given = {name: value for name, value in body.items() if value is not None}
    asyncio.run(_send(_Api.of(settings, url), given, wait_s=wait))


class _Api:
    """The service's API as this command needs it."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        self._headers = {"Content-Type": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    @classmethod
    def of(cls, settings: Settings, url: str | None) -> "_Api":
        token = settings.sms_api_key
        host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "") else settings.host  # noqa: S104  # compared, not bound
        own_url = f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
        return cls((url or own_url).rstrip("/"), None if token is None else token.get_secret_value())

    async def call(self, http: HttpClient, method: str, path: str, body: Json | None = None, **headers: str) -> Json:
        """Return the answer's JSON. Raises StartupError with what to do when it is no success."""
        raw = None if body is None else orjson.dumps(body)
        try:
            response = await http.request(method, self.url + path, headers=self._headers | headers, body=raw)
        except RequestNotSentError:
            raise StartupError(
                f"no service answers at {self.url}: start it with `sms-foundation serve`, or all of it with "
                "`sms-foundation run`; --url says where else it listens"
            ) from None
        except HttpCallError as error:
            raise StartupError(f"the service at {self.url} broke off ({error}); look at its log") from None
        try:
            answer = orjson.loads(response.body)
        except orjson.JSONDecodeError:
            answer = None
        if isinstance(answer, dict) and 200 <= response.status < 300:
            return answer
        raise StartupError(_explain(self.url, response.status, answer))


def _explain(url: str, status: int, answer: object) -> str:
    problem = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(problem, dict):
        return f"what answers at {url} is not SMS Foundation (HTTP {status}); --url says where it listens"
    if status == 401:
        return "the service does not know us: set SMS_API_KEY to a key that may send (`sms-foundation keys create`)"
    return f"{problem.get('message')} ({problem.get('code')})"


async def _send(api: _Api, body: Json, *, wait_s: float) -> None:
    async with create_http_client(read_timeout_s=15.0) as http:
        accepted = await api.call(http, "POST", "/v1/sms/send", body, **{"Idempotency-Key": new_request_id()})
        message_id = accepted["request_id"]
        print(f"accepted as {message_id}: {accepted['num_segments']} x {accepted['encoding']}", flush=True)
        if wait_s:
            await _watch(api, http, message_id, wait_s)


async def _watch(api: _Api, http: HttpClient, message_id: str, wait_s: float) -> None:
    """Print each step as it happens. Raises StartupError when the message comes to a bad end."""
    deadline = monotonic() + wait_s
    shown: set[str] = set()
    while True:
        message = await api.call(http, "GET", f"/v1/sms/{message_id}")
        for line in map(escape_unprintable, _steps(message)):
            if line not in shown:
                print(line, flush=True)
            shown.add(line)
        status = message["status"]
        if status == _GOOD_END:
            return
        if status in _BAD_ENDS:
            why = escape_unprintable(message["error_message"] or message["error_code"] or "")
            raise StartupError(f"the message is {status}: {why}")
        if monotonic() >= deadline:
            print(f"still {status} after {wait_s:g} s; it goes on without us: {api.url}/v1/sms/{message_id}")
            return
        await asyncio.sleep(min(_LOOK_EVERY_S, max(deadline - monotonic(), 0.0)))


def _steps(message: Json) -> Iterator[str]:
    """Yield a line for everything that has happened to `message`, in order."""
    start = datetime.fromisoformat(message["created_at"])
    steps = [(each["created_at"], 1, _describe_event(each)) for each in message["events"]]
    steps += [
        (each["finished_at"], 0, _describe_attempt(each))
        for each in message["attempts"]
        if each["finished_at"] is not None
    ]
    for at, _, text in sorted(steps):
        yield f"  {(datetime.fromisoformat(at) - start).total_seconds():7.2f} s  {text}"


def _describe_event(event: Json) -> str:
    whose = f", says {event['provider']}" if event["provider"] else ""
    why = f": {event['error_message'] or event['error_code']}" if event["error_message"] or event["error_code"] else ""
    return f"{event['event_status']}{whose}{why}"


def _describe_attempt(attempt: Json) -> str:
    others = ", ".join(f"{name}: {why}" for name, why in attempt["reasons"].items() if name != attempt["provider"])
    took = "" if attempt["latency_ms"] is None else f" in {attempt['latency_ms']} ms"
    why = f" ({others.replace('_', ' ')})" if others else ""
    return f"attempt {attempt['number']} through {attempt['provider']}: {attempt['outcome']}{took}{why}"

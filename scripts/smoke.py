"""Does a deployment do its work? Asks it from outside, prints one line per question, and ends with 1 if one fails.

    SMS_API_KEY=... TWILIO_ACCOUNT_SID=... TWILIO_AUTH_TOKEN=... python scripts/smoke.py \\
        --url https://candidate---sms-foundation-abc.run.app --public-base-url https://sms-staging.example.com

A text is signed and delivered as Twilio would, by the simulator, and read back over the API. It goes to --url under the
signature of --public-base-url, so that a revision is tried before it gets traffic. --read-only leaves it out: what
is left changes nothing, and suits production.

SMS_API_KEY needs operations:read, messages:read and messages:read_content.
"""

import argparse
import json
import os
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable

_TIMEOUT_S = 20.0
_PHONE = "+15005550009"  # a number that no phone has; all smoke tests share its conversation


class SmokeError(Exception):
    """A question that was answered wrongly."""


class Deployment:
    """A deployment under test: where it is, and under which name it is known."""

    def __init__(self, url: str, public_base_url: str, api_key: str) -> None:
        self._url = url.rstrip("/")
        self._public_base_url = public_base_url.rstrip("/")
        self._api_key = api_key

    def answers(self, path: str) -> None:
        """Answers 200 to a caller with a key."""
        self._expect(200, "GET", path, key=self._api_key)

    def refuses_a_webhook_without_signature(self) -> None:
        self._expect(403, "POST", "/webhook/twilio/sms", form={"MessageSid": "SM" + "0" * 32, "Body": "unsigned"})

    def refuses_a_caller_without_a_key(self) -> None:
        self._expect(401, "GET", "/v1/sms")

    def stores_a_signed_text(self) -> None:
        """A text that Twilio's signature vouches for is stored, and can be read back."""
        body = f"Smoke test {uuid.uuid4().hex}"
        command = [sys.executable, "-m", "sms_foundation", "simulator", "--port", "1", "--service-url", self._url]
        command += ["--public-base-url", self._public_base_url, "text", "--from", _PHONE, body]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        if told.returncode:
            raise SmokeError(f"the text was not taken: {told.stdout.strip()} {told.stderr.strip()}")
        found = self._expect(200, "GET", f"/conversations/{urllib.parse.quote(_PHONE)}", key=self._api_key)
        if body not in {each["content"] for each in json.loads(found)["messages"]}:
            raise SmokeError("the text was taken, and cannot be read back")

    def _expect(
        self, status: int, method: str, path: str, *, key: str | None = None, form: dict[str, str] | None = None
    ) -> bytes:
        request = urllib.request.Request(self._url + path, method=method)  # noqa: S310  # an operator names the URL
        if key is not None:
            request.add_header("Authorization", f"Bearer {key}")
        if form is not None:
            request.data = urllib.parse.urlencode(form).encode()
        body: bytes
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                got, body = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            got, body = error.code, b""
        except OSError as error:
            raise SmokeError(f"{method} {path}: no answer: {error}") from None
        if got != status:
            raise SmokeError(f"{method} {path}: {got} instead of {status}")
        return body


def _run(name: str, question: Callable[[], None]) -> bool:
    try:
        question()
    except SmokeError as error:
        print(f"FAILED  {name}: {error}")
        return False
    print(f"ok      {name}")
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="where to ask")
    parser.add_argument("--public-base-url", help="what signatures are made for [default: --url]")
    parser.add_argument("--read-only", action="store_true", help="ask only what changes nothing")
    options = parser.parse_args()
    deployment = Deployment(options.url, options.public_base_url or options.url, os.environ.get("SMS_API_KEY", ""))
    questions: list[tuple[str, Callable[[], None]]] = [
        ("is alive", lambda: deployment.answers("/health/live")),
        ("is ready", lambda: deployment.answers("/health/ready")),
        ("has all it depends on", lambda: deployment.answers("/health")),
        ("refuses a webhook without a signature", deployment.refuses_a_webhook_without_signature),
        ("refuses a caller without a key", deployment.refuses_a_caller_without_a_key),
    ]
    if not options.read_only:
        questions.append(("stores a signed text", deployment.stores_a_signed_text))
    results = [_run(name, question) for name, question in questions]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())

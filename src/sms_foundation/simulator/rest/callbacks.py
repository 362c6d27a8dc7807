"""Calling the service back, for the providers whose retries are their own business and not the URL's."""

from collections.abc import Mapping
from typing import Final

from sms_foundation.simulator.overrides import ConnectionOverrides
from sms_foundation.simulator.posting import NoAnswerError, Poster, authority_of, reroute
from sms_foundation.simulator.settings import SimulatorSettings

_LIMITS: Final = ConnectionOverrides(connect_timeout_ms=5_000, read_timeout_ms=10_000, total_timeout_ms=15_000)


class CallbackSender:
    """Sends signed requests to URLs the service gave; close it when done."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._public_base_url = settings.signed_base_url
        self._deliver_base_url = settings.service_url.rstrip("/")
        self._poster = Poster()

    async def close(self) -> None:
        await self._poster.close()

    async def send(self, url: str, headers: Mapping[str, str], body: bytes = b"", *, method: str = "POST") -> bool:
        """Tell whether the answer was 2xx. `url` is used byte for byte, without its fragment; does not raise."""
        url = url.partition("#")[0]
        target = reroute(url, self._public_base_url, self._deliver_base_url)
        if target != url:
            headers = {**headers, "Host": authority_of(url)}
        try:
            answer = await self._poster.post(
                target, body, headers, overrides=_LIMITS, budget_s=_LIMITS.total_timeout_ms / 1000, method=method
            )
        except NoAnswerError:
            return False
        return 200 <= answer.status_code < 300

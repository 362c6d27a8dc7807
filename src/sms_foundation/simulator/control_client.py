"""Speaking to a running simulator's control API from the command line."""

from collections.abc import Mapping
from typing import Any

import httpx

_TIMEOUT = httpx.Timeout(60, connect=2)  # a delivery with all its retries and the fallback may take 30 s


class NoSimulatorError(Exception):
    """Nothing answers at the simulator's address."""


class ControlError(Exception):
    """The control API refused, or something else answers at its address; the message says which."""


def call_simulator(
    simulator_url: str,
    method: str,
    path: str,
    *,
    json: Mapping[str, object] | None = None,
    params: Mapping[str, str | int] | None = None,
    bearer_key: str | None = None,
) -> Any:  # Any: JSON, read by the caller that knows its shape
    """Return the decoded JSON of a 2xx answer, {} for an empty one. Raises NoSimulatorError or ControlError."""
    headers = {} if bearer_key is None else {"Authorization": f"Bearer {bearer_key}"}
    try:
        response = httpx.request(
            method,
            simulator_url.rstrip("/") + path,
            json=json,
            params=params,
            headers=headers,
            timeout=_TIMEOUT,
            trust_env=False,
        )
    except httpx.ConnectError:
        raise NoSimulatorError(simulator_url) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ControlError(f"{simulator_url} does not answer: {type(error).__name__}") from None
    if response.status_code == httpx.codes.NO_CONTENT:
        return {}
    try:
        answer = response.json()
    except ValueError:
        raise ControlError(
            f"what answers at {simulator_url} is not the simulator (HTTP {response.status_code})"
        ) from None
    if response.is_success:
        return answer
    problem = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(problem, dict):
        raise ControlError(f"what answers at {simulator_url} is not the simulator (HTTP {response.status_code})")
    raise ControlError(str(problem.get("message")))

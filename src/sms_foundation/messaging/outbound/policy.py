"""What operators decide about sending, apart from the providers themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

WAIT = 0
"""Stuck-head policy: those behind a message that cannot go out wait for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendingPolicy:
    """Times and rules of dispatching.

    `settle_after`: a call without an answer is looked up after so long, when the provider must be done with it.
    `give_up_after`: what could not be confirmed by then is left to a person. `poll_after`: a sent message without a
    final status is asked about. `skip_after`: after so many attempts those behind a message no longer wait for it
    (WAIT: they do), by client, `skip_after_default` for the others.
    """

    settle_after: timedelta = timedelta(seconds=30)
    give_up_after: timedelta = timedelta(hours=1)
    poll_after: timedelta = timedelta(minutes=30)
    skip_after_default: int = WAIT
    skip_after: Mapping[str, int] = field(default_factory=dict)

    def is_skipped(self, client_id: str, attempts: int) -> bool:
        """Tell whether messages behind one of `client_id` with so many attempts may overtake it."""
        limit = self.skip_after.get(client_id, self.skip_after_default)
        return limit != WAIT and attempts >= limit


def skip_after(text: str) -> int:
    """Read a stuck-head setting, `wait` or `skip:N`, as the number of attempts."""
    return WAIT if text == "wait" else int(text.removeprefix("skip:"))

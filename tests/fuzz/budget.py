"""How much is tried: a fixed share of it with every run of the tests, more on demand."""

import os

FACTOR = int(os.environ.get("FUZZ", "1"))
"""How many times the usual number of examples: 1 in `make check`, FUZZ=20 in `make fuzz`."""


def examples(usual: int) -> int:
    """Return how many examples a test tries that usually tries so many."""
    return usual * FACTOR

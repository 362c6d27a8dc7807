"""Wrong credentials, counted by where they come from."""


class FailureLimit:
    """STUB"""

    def check(self, address: str) -> None:
        """Raise RateLimitedError while `address` has had too many; asks nobody."""

    async def count(self, address: str) -> None:
        """Count one more."""

"""Has this process been told to stop? One answer for all its parts."""


class Stopping:
    """False until whoever gets the signal calls `begin`; there is no way back."""

    def __init__(self) -> None:
        self.has_begun = False

    def begin(self) -> None:
        """Let every part know. Idempotent."""
        self.has_begun = True

"""The one error of the chaos run."""


class ChaosError(Exception):
    """The run cannot go on, which says nothing about the service; the message is one line and says why."""

"""The one error of the benchmarks."""


class BenchmarkError(Exception):
    """The benchmark cannot run, or what it measured is worthless; the message is one line and says why."""

"""Figures of the running service, under load from outside: `make bench`, or `python -m benchmarks --help`.

Nothing here is a test: figures depend on the machine. docs/benchmarks.md tells what each one means. Enter at
`__main__`; a module per kind of figure (inbound, pace, enriching, starting, recognising, history), the rest is shared.
"""

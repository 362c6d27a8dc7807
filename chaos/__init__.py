"""Breaks a running service on purpose and counts, from outside, what was lost, doubled or swapped.

Enter through `python -m chaos`; `play` is one run. `plan` says what breaks when (pure), `cast` and `postgres` hold the
processes, `faults` breaks them, `load` uses the service meanwhile, `observe` reads what became of it, `count` judges
(pure), `report` tells.
Nothing here reads the service's tables: providers' record, phones and public API must agree by themselves.
"""

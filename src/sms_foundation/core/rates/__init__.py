"""How fast something may go, counted over all instances: slots are reserved ahead, never hits counted afterwards.

Owns the `rate_cells` table. Enter through `base.Rates`; `postgres` and `redis` keep the cells, `margin` says how far
apart slots must be. Knows no domain words: what a key stands for, and what a unit is, is the caller's business.
"""

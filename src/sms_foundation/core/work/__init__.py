"""Durable work: rows written in the transaction that causes them, run by whichever process is there.

Owns the `work` table. Enter through `queue` (enqueue, dead rows) and `runner` (run what is due). Knows no domain words:
what a kind means is decided by the handlers that the composition root registers.
"""

"""Who did what: the append-only record, and how it is read."""

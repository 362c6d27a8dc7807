"""The true record over HTTP: what providers accepted and what reached the phones. `carrier.record` keeps it."""

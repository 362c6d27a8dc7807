"""API keys: how one looks (`format`), and what is done with them (`service`). The secret is seen by its owner alone."""

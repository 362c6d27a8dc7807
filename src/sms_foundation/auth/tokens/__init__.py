"""Tokens (JWT, RS256): whose keys sign ours, how they are issued and read, and whose besides ours are believed."""

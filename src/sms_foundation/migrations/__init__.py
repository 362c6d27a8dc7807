"""The schema's history: one line of numbered migrations, and who runs them when.

Enter through `state` (is the schema current? loads nothing) and `runner` (bring it up to date; loads Alembic).
"""

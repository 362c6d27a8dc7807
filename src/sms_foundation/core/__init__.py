"""Building blocks without domain words: settings, errors, time, ids, database, HTTP, logs, metrics, phones, work rows.

Imports nothing from the rest of the package. Enter through the module you need; there is no facade.
"""

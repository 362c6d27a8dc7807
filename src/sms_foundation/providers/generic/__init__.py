"""Any provider with an HTTP API, described by configuration alone.

Enter through `adapter`. `fields` and `callback` read webhooks and make status URLs; other adapters use them as well.
"""

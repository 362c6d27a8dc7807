"""The web edge without domain words: request context, error envelope, bearer token, paging, health, metrics.

The only place below the routers that knows Starlette and FastAPI.
"""

"""Headers that keep browsers from doing with our answers what nobody asked for; on every answer."""

from collections.abc import Sequence

Header = tuple[bytes, bytes]

# Source: https://owasp.org/www-project-secure-headers/ (November 2026)
_ALWAYS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-site"),
)
_DATA = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
# FastAPI's pages load their scripts from a public network and start them inline.
_PAGE = (
    b"content-security-policy",
    b"default-src 'self'; script-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net; "
    b"style-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net https://fonts.googleapis.com; "
    b"font-src https://fonts.gstatic.com; img-src 'self' data: https://fastapi.tiangolo.com https://cdn.redoc.ly; "
    b"worker-src blob:; frame-ancestors 'none'",
)
_PAGES = frozenset({"/docs", "/redoc", "/docs/oauth2-redirect"})
_NOT_KEPT = (b"cache-control", b"no-store")
_ONE_YEAR_OF_HTTPS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")


class SecurityHeaders:
    """Adds them. `is_https`: the public address begins with https, which browsers then insist on for a year."""

    def __init__(self, *, is_https: bool = False) -> None:
        common = (*_ALWAYS, _ONE_YEAR_OF_HTTPS) if is_https else _ALWAYS
        self._for_data: tuple[Header, ...] = (*common, _DATA)
        self._for_pages: tuple[Header, ...] = (*common, _PAGE)

    def join(self, path: str, headers: Sequence[Header]) -> list[Header]:
        """Return `headers` of an answer with ours; how long it may be kept is left to a route that says so."""
        ours = self._for_pages if path in _PAGES else self._for_data
        for name, _ in headers:
            if name == b"cache-control":
                return [*headers, *ours]
        return [*headers, *ours, _NOT_KEPT]

"""X-Twilio-Signature: made and checked over the raw form pairs.

Source: https://www.twilio.com/docs/usage/security and the request validators of Twilio's SDKs (read November 2026).
"""

import base64
import hmac
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from urllib.parse import urlsplit


def sign(auth_token: str, url: str, pairs: Iterable[Sequence[str]]) -> str:
    """Return the base64 HMAC-SHA1 that Twilio sends for a form POST of `pairs` to `url`.

    `url` is signed byte for byte. `pairs` are the once-decoded (name, value) pairs in any order; blank values count
    with their bare name. Of a repeated name each distinct value counts once, in order, as in the Python and Node SDKs.
    Bytes that were not UTF-8 must arrive as `surrogateescape` so that the original bytes are signed.

    Raises UnicodeEncodeError for text that no form body can carry (a lone surrogate that stands for no byte).
    """
    return _digest(auth_token, url, _signed_form(pairs)).decode()


def verify_signature(auth_token: str, url: str, pairs: Iterable[Sequence[str]], signature: str) -> bool:
    """Tell whether `signature` is Twilio's for this URL and these pairs; never raises, compares in constant time.

    Twilio drops or keeps the port by product and scheme, so after the URL as it stands its spelling without port, or
    with the scheme's own port, is tried. An empty token or signature is never valid.
    """
    if not auth_token or not signature:
        return False
    given = signature.encode("utf-8", "replace")  # compare_digest refuses non-ASCII text, not bytes
    try:
        form = _signed_form(pairs)
        return hmac.compare_digest(_digest(auth_token, url, form), given) or hmac.compare_digest(
            _digest(auth_token, _other_port_spelling(url), form), given
        )
    except UnicodeEncodeError:
        return False


def _signed_form(pairs: Iterable[Sequence[str]]) -> bytes:
    # Sort by name, then value: "concatenate, then sort" would put MediaUrl10 before the value of MediaUrl1.
    ordered = sorted(set(map(tuple, pairs)))
    return "".join(chain.from_iterable(ordered)).encode("utf-8", "surrogateescape")


def _digest(auth_token: str, url: str, form: bytes) -> bytes:
    return base64.b64encode(hmac.digest(auth_token.encode(), url.encode("utf-8", "surrogateescape") + form, "sha1"))


@lru_cache(maxsize=64)  # a deployment has a handful of webhook URLs
def _other_port_spelling(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # a port that is no number, a broken IPv6 literal
        return url
    userinfo, at, address = parts.netloc.rpartition("@")
    default_port = 443 if parts.scheme == "https" else 80
    address = f"{address}:{default_port}" if port is None else address.rpartition(":")[0]
    # Only the authority is replaced: a re-assembled URL would lose an empty query's "?" and change the signed bytes.
    tail = url[len(parts.scheme) + 3 + len(parts.netloc) :]
    return f"{parts.scheme}://{userinfo}{at}{address}{tail}"

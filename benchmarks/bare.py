"""The yardstick: a bare Starlette route that checks Twilio's signature and stores nothing.

`python -m benchmarks.bare PORT`, on the same server as the service (uvicorn, uvloop, httptools).
"""

import base64
import hmac
import sys
from urllib.parse import parse_qsl

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.requests import AUTH_TOKEN, BASE_URL, SMS_PATH

_URL = (BASE_URL + SMS_PATH).encode()
_KEY = AUTH_TOKEN.encode()
_TWIML = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'


async def receive(request: Request) -> Response:
    pairs = parse_qsl((await request.body()).decode(), keep_blank_values=True)
    signed = _URL + "".join(name + value for name, value in sorted(pairs)).encode()
    expected = base64.b64encode(hmac.digest(_KEY, signed, "sha1"))
    if not hmac.compare_digest(expected, request.headers.get("x-twilio-signature", "").encode()):
        return Response(status_code=403)
    return Response(_TWIML, media_type="text/xml")


app = Starlette(routes=[Route(SMS_PATH, receive, methods=["POST"])])

if __name__ == "__main__":
    uvicorn.run(
        app, port=int(sys.argv[1]), loop="uvloop", http="httptools", ws="none", access_log=False, log_level="warning"
    )

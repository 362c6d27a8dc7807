"""A TCP relay to PostgreSQL that delays the answers: a database that is further away.

`python -m benchmarks.delay_proxy PORT DELAY_MS UPSTREAM`, where UPSTREAM is `HOST:PORT` or the path of a unix socket.
Only answers wait, so DELAY_MS is what a round trip takes longer. The order of bytes stays.
"""

import asyncio
import selectors
import sys
from collections.abc import Callable


async def relay(port: int, delay_s: float, upstream: str) -> None:
    """Serve until cancelled."""

    async def serve(client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        if upstream.startswith("/"):
            server_in, server_out = await asyncio.open_unix_connection(upstream)
        else:
            host, _, server_port = upstream.rpartition(":")
            server_in, server_out = await asyncio.open_connection(host, int(server_port))
        loop = asyncio.get_running_loop()

        def later(data: bytes) -> None:
            # Timers of equal delay fire in the order in which they were set.
            loop.call_later(delay_s, client_out.write, data)

        try:
            await asyncio.wait(
                [
                    asyncio.create_task(_pump(client_in, server_out.write)),
                    asyncio.create_task(_pump(server_in, later)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
            await asyncio.sleep(delay_s)
        finally:
            server_out.close()
            client_out.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    await server.serve_forever()


async def _pump(source: asyncio.StreamReader, write: Callable[[bytes], object]) -> None:
    while data := await source.read(1 << 18):
        write(data)


if __name__ == "__main__":
    # select() sleeps to the microsecond; epoll, the usual choice here, would round every delay up to a millisecond.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(relay(int(sys.argv[1]), float(sys.argv[2]) / 1000, sys.argv[3]))

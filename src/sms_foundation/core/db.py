"""The database: one understanding of DATABASE_URL, one pool of asyncpg connections, one view of what can go wrong.

Nothing here assumes a session that outlives a transaction, so all of it works behind a transaction pooler. Tables are
declared with SQLAlchemy (`core.schema`) for migrations only; why queries are plain SQL is told in docs/adr/0002.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import asyncpg

from sms_foundation.core.clock import monotonic
from sms_foundation.core.config import Settings
from sms_foundation.core.errors import StartupError
from sms_foundation.core.metrics import DATABASE_WAIT_SECONDS
from sms_foundation.core.saturation import Use
from sms_foundation.core.tracing.statements import StatementSpans
from sms_foundation.core.tracing.tracer import Tracer

T = TypeVar("T")
Connection: TypeAlias = asyncpg.pool.PoolConnectionProxy  # asyncpg ships no complete types; these two name the intent
Pool: TypeAlias = asyncpg.Pool

# Connection parameters that asyncpg understands in a URL's query.
# Source: https://magicstack.github.io/asyncpg/current/api/index.html#connection (read November 2026)
_LIBPQ_PARAMETERS = frozenset(
    "host port user password dbname database passfile sslmode sslcert sslkey sslpassword sslrootcert sslcrl "
    "sslnegotiation ssl_min_protocol_version ssl_max_protocol_version target_session_attrs krbsrvname gsslib "
    "service servicefile".split()
)
# Parameters of other tools that dashboards put into the URLs they hand out (Prisma, Neon, libpq): nothing to us.
_FOREIGN_PARAMETERS = frozenset(
    "pgbouncer connection_limit pool_timeout schema channel_binding connect_timeout application_name "
    "prepared_statements prepared_statement_cache_size statement_cache_size async_fallback".split()
)
_SSL_MODES = frozenset("disable allow prefer require verify-ca verify-full".split())
_SUPABASE_TRANSACTION_PORT = 6543  # Source: https://supabase.com/docs/guides/database/connecting-to-postgres


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """A DATABASE_URL in the form asyncpg takes, and what its spelling says about a pooler in front."""

    dsn: str = field(repr=False)
    is_transaction_pooler: bool

    @property
    def safe_name(self) -> str:
        """Host, port and database for messages; never credentials."""
        parts = urlsplit(self.dsn)
        query = dict(parse_qsl(parts.query))
        host = parts.hostname or query.get("host") or "local socket"
        host = f"[{host}]" if ":" in host else host
        port = f":{parts.port}" if parts.port else ""
        return f"{unquote(host)}{port}{parts.path}"


def parse_database_url(url: str, *, pooler: str = "auto") -> DatabaseUrl:
    """Read a DATABASE_URL in any usual spelling: `postgres://`, `postgresql://`, `postgresql+<driver>://`.

    `pooler` is the DATABASE_POOLER setting; `auto` recognises Supabase's port 6543 and `pgbouncer=true`.
    Raises StartupError, without the URL in its text, when it is no PostgreSQL URL or has a parameter nobody knows.
    """
    scheme, separator, rest = url.strip().partition("://")
    dialect, _, _driver = scheme.partition("+")
    if not separator or dialect not in ("postgres", "postgresql"):
        raise StartupError("DATABASE_URL must look like postgresql://user:password@host:5432/database")
    try:
        parts = urlsplit(f"postgresql://{rest}")
        port = parts.port
        parameters = [_as_libpq(*each) for each in parse_qsl(parts.query, keep_blank_values=True)]
        # Signs of a password with a bare "#", "?" or "/" in it: what follows must not be shown as something else.
        if parts.fragment or "@" in parts.path or not all(name.isidentifier() for name, _ in parameters):
            raise ValueError
    except ValueError:
        raise StartupError(
            "DATABASE_URL has a broken host or port; percent-encode special characters in the password"
        ) from None
    if unknown := sorted({name for name, _ in parameters} - _LIBPQ_PARAMETERS - _FOREIGN_PARAMETERS):
        raise StartupError(f"DATABASE_URL has unknown parameters: {', '.join(unknown)}")
    flags = dict(parameters)
    if flags.get("sslmode", "prefer") not in _SSL_MODES:
        raise StartupError(f"DATABASE_URL has an unknown sslmode; it is one of {', '.join(sorted(_SSL_MODES))}")
    if pooler == "auto":
        is_pooler = port == _SUPABASE_TRANSACTION_PORT or flags.get("pgbouncer") == "true"
    else:
        is_pooler = pooler == "transaction"
    kept = urlencode([(n, v) for n, v in parameters if n in _LIBPQ_PARAMETERS], quote_via=quote)
    return DatabaseUrl(parts._replace(query=kept).geturl(), is_pooler)


def _as_libpq(name: str, value: str) -> tuple[str, str]:
    """Translate `ssl`, which is how SQLAlchemy's asyncpg URLs and Node's spell `sslmode`."""
    if name != "ssl":
        return name, value
    return "sslmode", {"true": "require", "1": "require", "false": "disable", "0": "disable"}.get(value.lower(), value)


class Database:
    """All connections of one process. Opening needs no server: connections are made when first used.

    With a `tracer` each statement that is run within a recorded trace is a span; who writes through it may use it too.
    """

    def __init__(self, url: DatabaseUrl, settings: Settings, tracer: Tracer | None = None) -> None:
        self.url = url
        self.tracer = tracer
        self._acquire_timeout_s = settings.database_pool_timeout_s
        self._waiting = _Waiting()
        self.pool: Pool = asyncpg.create_pool(
            dsn=url.dsn,
            min_size=0,
            max_size=settings.database_pool_size,
            timeout=settings.database_connect_timeout_s,
            command_timeout=settings.database_command_timeout_s,
            max_inactive_connection_lifetime=0,  # a new connection costs the request that opens it 15 ms
            init=_preparing(url, tracer),
            # A named statement lives in one server session, and behind a pooler the next transaction may get another.
            statement_cache_size=0 if url.is_transaction_pooler else 1024,
            # We leave no session state behind, so the default reset (a round trip, and meaningless behind a transaction
            # pooler) is left out; asyncpg still rolls back an open transaction.
            reset=_no_reset,
            server_settings=_session_settings(url, settings),
        )

    def connection(self) -> AbstractAsyncContextManager[Connection]:
        """Lend a pooled asyncpg connection; each statement commits by itself."""
        return _Lent(self.pool, self._acquire_timeout_s, self._waiting)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a pooled asyncpg connection inside one transaction; commits at the end, rolls back on any exception."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    def use(self) -> Use:
        """Tell how full the pool is. Who waits for a connection that is being opened waits, too."""
        in_use = self.pool.get_size() - self.pool.get_idle_size()
        return Use(self.pool.get_max_size(), in_use, self._waiting.callers, self._waiting.errors)

    async def open(self) -> None:
        """Prepare the pool. Does not connect, and so succeeds while the server is unreachable."""
        await self.pool

    async def warm_up(self, connections: int = 4) -> None:
        """Open so many connections before the first request needs them. Raises when the server cannot be reached."""
        async with AsyncExitStack() as stack:
            for _ in range(min(connections, self.pool.get_max_size())):
                await stack.enter_async_context(self.connection())

    async def close(self, *, patience_s: float = 2.0) -> None:
        """Close every connection; those still busy after `patience_s` are cut."""
        try:
            async with asyncio.timeout(patience_s):
                await self.pool.close()
        except TimeoutError:
            self.pool.terminate()


class _Waiting:
    """Those for whom no connection is free at once: only they are counted and timed, the others would pay for it."""

    __slots__ = ("callers", "errors")

    def __init__(self) -> None:
        self.callers = 0
        self.errors = Counter(timeout=0, failed=0)

    async def acquire(self, pool: Pool, timeout_s: float) -> Connection:
        """Wait for a connection to be given back or opened."""
        self.callers += 1
        started = monotonic()
        try:
            return await pool.acquire(timeout=timeout_s)
        except Exception as error:
            self.errors["timeout" if isinstance(error, TimeoutError) else "failed"] += 1
            raise
        finally:
            self.callers -= 1
            DATABASE_WAIT_SECONDS.observe(monotonic() - started)


class _Lent(AbstractAsyncContextManager[Connection]):
    """A pooled connection for the length of a block; taking it and giving it back are bounded."""

    __slots__ = ("_connection", "_pool", "_timeout_s", "_waiting")

    def __init__(self, pool: Pool, timeout_s: float, waiting: _Waiting) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._waiting = waiting

    async def __aenter__(self) -> Connection:
        # The timer is for a wait; with a free connection at hand it would only cost.
        is_free = self._pool.get_idle_size()
        acquire = self._pool.acquire() if is_free else self._waiting.acquire(self._pool, self._timeout_s)
        self._connection = await acquire
        return self._connection

    async def __aexit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        # After a cancelled statement this waits for the server's word, which may never come.
        release = self._pool.release(self._connection, timeout=self._timeout_s)
        if error_type is None:
            await release
            return
        # Whoever is cancelled here a second time leaves; that the release then fails is nobody's news.
        task = asyncio.ensure_future(release)
        task.add_done_callback(_look_at)
        await asyncio.shield(task)


def _look_at(task: asyncio.Future[None]) -> None:
    if not task.cancelled():
        task.exception()


def _session_settings(url: DatabaseUrl, settings: Settings) -> dict[str, str]:
    server_settings = {"application_name": settings.database_application_name}
    if not url.is_transaction_pooler:
        # Prepared statements keep the plan of their first minute, when tables may be empty and scanning them the best
        # plan. With a million rows it would be the worst, so only plans that are good at any size are left to choose:
        # index probes in nested loops. Then one plan for all arguments is right, and making it anew each time, which
        # cost a history page 200 us, is not needed. (Behind a pooler nothing stays prepared, and these cannot be set.)
        server_settings |= {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off", "jit": "off"}
        server_settings["plan_cache_mode"] = "force_generic_plan"
    return server_settings


def _preparing(url: DatabaseUrl, tracer: Tracer | None) -> Callable[[Connection], Awaitable[None]] | None:
    """Return what is done with each new connection before its first use, if anything is."""
    if tracer is None:
        return None if url.is_transaction_pooler else _learn_array_types
    spans = StatementSpans(tracer)

    async def prepare(connection: Connection) -> None:
        if not url.is_transaction_pooler:
            await _learn_array_types(connection)
        connection.add_query_logger(spans.record)

    return prepare


async def _learn_array_types(connection: Connection) -> None:
    """Let asyncpg ask for the array types our statements take now, not in the middle of the first of them."""
    await connection.prepare(
        "SELECT $1::uuid[], $2::int[], $3::bigint[], $4::float8[], $5::interval[], $6::timestamptz[]"
    )


async def _no_reset(_connection: object) -> None:
    return None


_RACES = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    # Two processes inserting the same key: the next try sees the other's row and takes the quiet road.
    asyncpg.UniqueViolationError,
)
_BROKEN_CONNECTIONS = (
    ConnectionError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)
_OUTAGES = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.CannotConnectNowError,
    asyncpg.ObjectNotInPrerequisiteStateError,  # a database that takes no connections for now
    asyncpg.InternalServerError,  # also what Supabase's pooler calls having no connection left
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.UndefinedTableError,
    asyncpg.InternalClientError,
)


def is_outage(error: BaseException) -> bool:
    """Tell whether the database, not the data, is to blame: it may succeed later, unchanged."""
    return isinstance(error, _OUTAGES)


def is_broken_connection(error: BaseException) -> bool:
    """Tell whether the connection broke; what was under way on it may have been done or not."""
    return isinstance(error, _BROKEN_CONNECTIONS)


def explain_outage(error: BaseException) -> str:
    """Say in one line why the database cannot be used, for logs and readiness; never contains credentials."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__


async def retry_races(attempt: Callable[[], Awaitable[T]], *, attempts: int = 4) -> T:
    """Run `attempt` until it loses no race against another process; each run must be a whole transaction of its own.

    A connection that breaks in the middle is tried once more on another one: what is repeated here must be idempotent.
    """
    for left in range(attempts - 1, -1, -1):
        try:
            return await attempt()
        except _RACES:
            if not left:
                raise
        except _BROKEN_CONNECTIONS:
            if left < attempts - 1:
                raise
    raise AssertionError("unreachable")


def rows_affected(status: str) -> int:
    """Read the row count out of a command tag such as `UPDATE 3`."""
    return int(status.rpartition(" ")[2])

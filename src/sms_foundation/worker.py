"""Everything of one process but the HTTP edge: database, clients, background work. Runs alone, or under `app`."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import cast
from uuid import uuid4

import structlog

from sms_foundation.auth.tidying import TIDY_ACCESS, Tidying, recurring_access_work
from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database, DatabaseUrl, explain_outage
from sms_foundation.core.errors import StartupError
from sms_foundation.core.http import HttpClient, create_http_client
from sms_foundation.core.rates.base import Rates
from sms_foundation.core.rates.postgres import PostgresRates
from sms_foundation.core.saturation import Saturation
from sms_foundation.core.stopping import Stopping
from sms_foundation.core.tracing.opening import open_tracer
from sms_foundation.core.tracing.tracer import Tracer
from sms_foundation.core.work import queue
from sms_foundation.core.work.queue import Priority
from sms_foundation.core.work.runner import WorkRunner
from sms_foundation.enrichment.findings import FindingStore
from sms_foundation.enrichment.jobs import LOOK_UP_CONVERSATION, RECONCILE, TELL_LANGUAGE
from sms_foundation.enrichment.tasks import Enrichment, recurring_work
from sms_foundation.enrichment.tenants.lookup import TenantLookup
from sms_foundation.enrichment.tenants.monitor import MonitorClient
from sms_foundation.enrichment.tenants.profile import TenantProfile
from sms_foundation.messaging.delivery import ReceiptStore, WordsOfProviders
from sms_foundation.messaging.ingest import MessageStore
from sms_foundation.messaging.jobs import (
    MESSAGE_RECEIVED,
    RECEIPT_UNMATCHED,
    RECONCILE_MESSAGES,
    RELEASE_MESSAGE,
    SEND_MESSAGE,
    SEND_TEST_MESSAGE,
    TEND_PROVIDERS,
)
from sms_foundation.messaging.outbound.dispatch import Dispatcher
from sms_foundation.messaging.outbound.pace import Pace
from sms_foundation.messaging.outbound.policy import SendingPolicy, skip_after
from sms_foundation.messaging.outbound.provider_states import ProviderStates
from sms_foundation.messaging.outbound.reconcile import Reconciliation, recurring_messaging_work
from sms_foundation.messaging.outbound.resolve import Resolver
from sms_foundation.messaging.tasks import ReceiptMatching
from sms_foundation.migrations.state import schema_problem
from sms_foundation.providers.base import Provider
from sms_foundation.providers.configured import configured_providers
from sms_foundation.providers.registry import AnyProviderConfig, open_connections, open_provider
from sms_foundation.providers.simulated.adapter import SIMULATED, SimulatedProvider
from sms_foundation.providers.status_words import status_words

log = structlog.get_logger(__name__)

_LAST_SPANS_S = 2.0


@dataclass(frozen=True, slots=True)
class Core:
    """The long-lived collaborators of one process. `runner` does what may wait a little, `sender` sends messages.

    `configs` and `providers` are the configured ones: the simulated one, which all processes have, is not among them.
    """

    database: Database
    runner: WorkRunner
    sender: WorkRunner
    lookup: TenantLookup
    enrichment: Enrichment
    configs: tuple[AnyProviderConfig, ...]
    providers: dict[str, Provider]
    states: ProviderStates
    messages: MessageStore
    receipts: ReceiptStore
    reconciliation: Reconciliation
    rates: Rates
    saturation: Saturation

    def start(self) -> None:
        """Begin with the background work."""
        self.states.start()
        self.runner.start()
        self.sender.start()

    @property
    def is_working(self) -> bool:
        """Whether background work is done in this process."""
        return self.runner.is_running and self.sender.is_running

    @property
    def has_stopped_working(self) -> bool:
        """Whether background work that should go on has ended by itself; only a new process helps."""
        return self.runner.has_died or self.sender.has_died

    async def stop(self, timeout_s: float) -> None:
        """Finish or hand back what is under way, within `timeout_s`."""
        await asyncio.gather(self.runner.stop(timeout_s), self.sender.stop(timeout_s))


@asynccontextmanager
async def closing_tracer(tracer: Tracer | None) -> AsyncIterator[None]:
    """Export the last spans at the end of the block; a collector that is away holds it up for two seconds at most."""
    try:
        yield
    finally:
        if tracer is not None:
            await tracer.close(_LAST_SPANS_S)


OpenPort = Callable[[Core, Stopping], AbstractAsyncContextManager[None]]
"""Opens a port on which a process that does background work alone can be asked how it is; closes it at the end."""


@asynccontextmanager
async def open_core(
    settings: Settings,
    url: DatabaseUrl,
    *,
    is_edge_busy: Callable[[], bool] = lambda: False,
    tracer: Tracer | None = None,
) -> AsyncIterator[Core]:
    """Build the collaborators and close them in reverse order; starts no work and needs no reachable database."""
    async with AsyncExitStack() as stack:
        database = Database(url, settings, tracer)
        await database.open()
        stack.push_async_callback(database.close, patience_s=min(settings.shutdown_timeout_s * 0.1, 2.0))
        saturation = Saturation()
        saturation.watch_pool("database", database.use)

        async def client(name: str) -> HttpClient:
            http = await stack.enter_async_context(
                create_http_client(
                    connect_timeout_s=settings.monitor_timeout_s,
                    read_timeout_s=settings.monitor_timeout_s,
                    tracer=tracer,
                    tells_trace=True,
                )
            )
            saturation.watch_pool(name, http.use)
            return http

        monitor = profile = None
        if settings.monitor_api_url is not None:
            key = settings.monitor_api_key.get_secret_value() if settings.monitor_api_key else None
            monitor = MonitorClient(await client("monitor"), base_url=settings.monitor_api_url, api_key=key)
        if settings.tenant_profile_api_url is not None:
            key = settings.monitor_api_key.get_secret_value() if settings.monitor_api_key else None
            profile = TenantProfile(
                await client("tenant_profile"), base_url=settings.tenant_profile_api_url, api_key=key
            )
        lookup = TenantLookup(monitor)
        stack.push_async_callback(lookup.aclose)

        def wake_runner() -> None:
            runner.wake()

        findings = FindingStore(database, tells_profiles=profile is not None, on_work=wake_runner)
        enrichment = Enrichment(
            database,
            lookup,
            profile,
            findings,
            reconcile_every=timedelta(seconds=settings.reconcile_interval_s),
        )

        async def close_enrichment() -> None:
            with suppress(TimeoutError):  # what could not be written down is found out again: its work is still there
                async with asyncio.timeout(settings.shutdown_timeout_s * 0.05):
                    await enrichment.close()

        stack.push_async_callback(close_enrichment)
        configs = configured_providers(settings)
        providers: dict[str, Provider] = {}
        for config in configs:
            http = open_connections(config, tracer=tracer)
            saturation.watch_pool(f"provider:{config.name}", http.use)
            provider = open_provider(config, http, base_urls=settings.public_base_urls)
            stack.push_async_callback(provider.aclose)
            providers[config.name] = provider
        carriers: dict[str, Provider] = {**providers, SIMULATED: SimulatedProvider()}
        states = ProviderStates(database, list(providers))
        stack.push_async_callback(states.close)
        messages = MessageStore(
            database,
            lease_token=uuid4(),
            lease=timedelta(seconds=settings.work_lease_s),
            room=lambda: 0,
            timeout_s=settings.webhook_timeout_s,
        )
        receipts = ReceiptStore(database, timeout_s=settings.webhook_timeout_s, on_delivered=states.note_delivery)
        policy = _sending_policy(settings)
        reconciliation = Reconciliation(
            database,
            carriers,
            states,
            receipts,
            messages,
            policy,
            every=timedelta(seconds=settings.reconcile_interval_s),
            default_region=settings.default_region,
        )
        rates = await _open_rates(stack, settings, database, saturation)
        pace = Pace(rates, configs)
        dispatcher = Dispatcher(database, carriers, configs, states, pace, policy)
        stack.push_async_callback(dispatcher.close)
        resolver = Resolver(database, carriers, dispatcher, policy)
        runner = WorkRunner(
            database,
            {
                MESSAGE_RECEIVED: enrichment.enrich_message,
                RECEIPT_UNMATCHED: ReceiptMatching(database, _words_of(configs)).match,
                LOOK_UP_CONVERSATION: enrichment.look_up_conversation,
                TELL_LANGUAGE: enrichment.tell_language,
                RECONCILE: enrichment.reconcile,
                RECONCILE_MESSAGES: reconciliation.reconcile,
                TEND_PROVIDERS: reconciliation.tend_providers,
                TIDY_ACCESS: Tidying(database).tidy,
            },
            concurrency=settings.work_concurrency,
            poll_s=settings.work_poll_s,
            lease_s=settings.work_lease_s,
            max_attempts=settings.work_max_attempts,
            is_edge_busy=is_edge_busy,
        )
        # A runner of its own: a lookup service that hangs must not hold up a single message.
        sender = WorkRunner(
            database,
            {
                RELEASE_MESSAGE: dispatcher.release,
                SEND_TEST_MESSAGE: resolver.send,
                # Without a provider the others wait for a process that has one.
                **({SEND_MESSAGE: resolver.send} if providers else {}),
            },
            concurrency=settings.send_concurrency,
            reserved=settings.send_concurrency // 8,
            poll_s=settings.work_poll_s,
            lease_s=settings.work_lease_s,
            max_attempts=settings.work_max_attempts,
            is_edge_busy=is_edge_busy,
            trickle_rows=5 * settings.work_concurrency,
            priorities=dict.fromkeys((SEND_MESSAGE, SEND_TEST_MESSAGE, RELEASE_MESSAGE), Priority),
            room=dispatcher.room,
        )
        saturation.watch_queues(
            {
                "enrichment_loads": enrichment.use,
                "findings": findings.use,
                "inbound_found": messages.use,
                "receipts": receipts.use,
                **dispatcher.queues,
                **{f"work_{written}": read for written, read in runner.queues.items()},
                **{f"sender_{written}": read for written, read in sender.queues.items()},
            }
        )
        saturation.watch_pool("work", runner.use)
        saturation.watch_pool("sender", sender.use)
        yield Core(
            database,
            runner,
            sender,
            lookup,
            enrichment,
            configs,
            providers,
            states,
            messages,
            receipts,
            reconciliation,
            rates,
            saturation,
        )


def _words_of(configs: Sequence[AnyProviderConfig]) -> WordsOfProviders:
    return {config.name: status_words(config) for config in configs}


def _sending_policy(settings: Settings) -> SendingPolicy:
    return SendingPolicy(
        settle_after=timedelta(seconds=settings.unknown_settle_s),
        give_up_after=timedelta(seconds=settings.unknown_give_up_s),
        poll_after=timedelta(seconds=settings.status_poll_after_s),
        skip_after_default=skip_after(settings.stuck_head),
        skip_after={client: skip_after(text) for client, text in settings.stuck_head_by_client.items()},
    )


async def keep_recurring_work(database: Database, *, look_every_s: float = 300.0) -> None:
    """See that the rows of recurring work exist, for ever: one that died is replaced within `look_every_s`."""
    pause_s = 1.0
    while True:
        try:
            async with database.transaction() as connection:
                recurring = [recurring_work(), recurring_access_work(), *recurring_messaging_work()]
                await queue.enqueue(connection, recurring)
        except Exception as error:  # noqa: BLE001  # whatever is wrong now may be right later
            log.debug("work.recurring_not_scheduled", error=explain_outage(error))
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 30.0)
        else:
            await asyncio.sleep(look_every_s)


def no_port(_core: Core, _stopping: Stopping) -> AbstractAsyncContextManager[None]:
    """Open nothing."""
    return nullcontext()


async def run_worker(settings: Settings, url: DatabaseUrl, *, open_port: OpenPort = no_port) -> None:
    """Run background work until SIGTERM or SIGINT, then finish or hand back what is under way.

    The port is open from before the work begins until after it has ended, so that its end can be watched.
    """
    stopping = Stopping()
    stop = asyncio.Event()

    def end() -> None:
        stopping.begin()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    tracer = open_tracer(settings)
    async with (
        closing_tracer(tracer),
        open_core(settings, url, tracer=tracer) as core,
        open_port(core, stopping),
    ):
        checking = asyncio.create_task(_check_schema(core.database))
        recurring = asyncio.create_task(keep_recurring_work(core.database))
        core.start()
        log.info("worker.started")
        await stop.wait()
        log.info("worker.stopping")
        checking.cancel()
        recurring.cancel()
        await core.stop(settings.shutdown_timeout_s * 0.6)
    log.info("worker.stopped")


async def _check_schema(database: Database) -> None:
    with suppress(Exception):  # an unreachable database is reported by the runner, again and again
        async with database.connection() as connection:
            if problem := await schema_problem(connection):
                log.warning("worker.schema", problem=problem)


async def _open_rates(stack: AsyncExitStack, settings: Settings, database: Database, saturation: Saturation) -> Rates:
    """Return where rates are kept. Raises StartupError when that is Redis and its client is not installed."""
    if settings.redis_url is None:
        return PostgresRates(database)
    try:
        redis = import_module("sms_foundation.core.rates.redis")  # the client is an extra
    except ModuleNotFoundError:
        raise StartupError("REDIS_URL needs its client: pip install 'sms-foundation[redis]'") from None
    rates = redis.RedisRates(settings.redis_url.get_secret_value())
    stack.push_async_callback(rates.close)
    saturation.watch_pool("redis", rates.use)
    return cast(Rates, rates)

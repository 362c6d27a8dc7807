import asyncio
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from sms_foundation.core.http import HttpClient, create_http_client
from sms_foundation.enrichment.tenants.circuit import Circuit
from sms_foundation.enrichment.tenants.errors import Failure, MonitorUnavailableError
from sms_foundation.enrichment.tenants.lookup import MonitorState, TenantLookup
from sms_foundation.enrichment.tenants.monitor import MonitorClient
from tests.loopback import LoopbackServer, Received, reply

NUMBER = "+14155550123"
MATCH = reply(200, b'{"tenant_id": "t-1"}')
LOOKUPS = "sms_tenant_lookups_total"


@pytest.fixture
def lookup_at(http: HttpClient, time) -> Callable[..., TenantLookup]:
    def make(server: LoopbackServer, *, threshold: int = 5) -> TenantLookup:
        monitor = MonitorClient(http, base_url=server.base_url)
        circuit = Circuit(threshold=threshold, cooldown_s=4, timing=time.timing)
        return TenantLookup(monitor, circuit=circuit, timing=time.timing)

    return make


def held(answer: bytes) -> tuple[asyncio.Event, Callable[[Received], Awaitable[bytes]]]:
    """Make an answer that comes only once the event is set."""
    gate = asyncio.Event()

    async def respond(request: Received) -> bytes:
        await gate.wait()
        return answer

    return gate, respond


class TestFind:
    async def test_asks_for_every_spelling_in_order_until_one_matches(self, serve, lookup_at, counted) -> None:
        async with serve(reply(404), reply(204), MATCH) as server:
            with counted(LOOKUPS, outcome="matched"), counted("sms_tenant_lookup_seconds_count"):
                assert await lookup_at(server).find("(415) 555-0123", NUMBER) == "t-1"

        assert server.targets == [
            "/tenants/lookup?phone=%28415%29%20555-0123",
            "/tenants/lookup?phone=%2B14155550123",
            "/tenants/lookup?phone=4155550123",
        ]

    async def test_match_is_remembered_until_it_expires(self, serve, lookup_at, time, counted) -> None:
        async with serve(MATCH) as server:
            lookup = lookup_at(server)
            await lookup.find(NUMBER, NUMBER)
            with counted(LOOKUPS, outcome="cached"):
                assert await lookup.find(NUMBER, NUMBER) == "t-1"
            assert len(server.received) == 1
            time.advance(73)
            await lookup.find(NUMBER, NUMBER)

        assert len(server.received) == 2

    async def test_unknown_number_is_looked_up_again_next_time(self, serve, lookup_at, counted) -> None:
        async with serve(reply(404), reply(404), reply(404), MATCH) as server:
            lookup = lookup_at(server)
            with counted(LOOKUPS, outcome="unknown"):
                assert await lookup.find(NUMBER, NUMBER) is None
            assert await lookup.find(NUMBER, NUMBER) == "t-1"

    async def test_without_a_monitor_nothing_is_known(self, counted) -> None:
        lookup = TenantLookup(None)
        with counted(LOOKUPS, outcome="not_configured"):
            assert await lookup.find(NUMBER, NUMBER) is None
        assert lookup.health().state is MonitorState.NOT_CONFIGURED

    async def test_address_without_any_spelling_is_unknown(self, serve, lookup_at) -> None:
        async with serve(MATCH) as server:
            assert await lookup_at(server).find("whatsapp:", "whatsapp:") is None

        assert server.received == []


class TestFindSharing:
    async def test_concurrent_callers_of_one_number_share_one_lookup(self, serve, lookup_at, counted) -> None:
        gate, respond = held(MATCH)
        async with serve(respond) as server:
            lookup = lookup_at(server)
            with counted(LOOKUPS, outcome="matched"), counted(LOOKUPS, by=9, outcome="shared"):
                callers = [asyncio.create_task(lookup.find(NUMBER, NUMBER)) for _ in range(10)]
                await server.has_received.wait()
                gate.set()
                assert await asyncio.gather(*callers) == ["t-1"] * 10

        assert len(server.received) == 1

    async def test_different_numbers_do_not_wait_for_each_other(self, serve, lookup_at) -> None:
        gate, respond = held(MATCH)
        async with serve(respond, reply(200, b'{"tenant_id": "t-2"}')) as server:
            lookup = lookup_at(server)
            slow = asyncio.create_task(lookup.find(NUMBER, NUMBER))
            await server.has_received.wait()
            assert await lookup.find("+34612345678", "+34612345678") == "t-2"
            gate.set()
            assert await slow == "t-1"

    @pytest.mark.parametrize("cancelled", [0, 1])
    async def test_cancelling_one_caller_leaves_the_lookup_to_the_others(
        self, serve, lookup_at, cancelled: int
    ) -> None:
        gate, respond = held(MATCH)
        async with serve(respond) as server:
            lookup = lookup_at(server)
            callers = [asyncio.create_task(lookup.find(NUMBER, NUMBER)) for _ in range(2)]
            await server.has_received.wait()
            callers[cancelled].cancel()
            gate.set()
            results = await asyncio.gather(*callers, return_exceptions=True)

        assert isinstance(results[cancelled], asyncio.CancelledError)
        assert results[1 - cancelled] == "t-1"
        assert len(server.received) == 1

    async def test_failure_is_shared_but_everyone_gets_an_error_of_their_own(self, serve, lookup_at) -> None:
        async with serve(reply(503, retry_after="30")) as server:
            lookup = lookup_at(server)
            results = await asyncio.gather(*(lookup.find(NUMBER, NUMBER) for _ in range(3)), return_exceptions=True)

        assert [(type(each), each.retry_after_s) for each in results] == [(MonitorUnavailableError, 30)] * 3
        assert len({id(each) for each in results}) == 3
        assert len(server.received) == 4

    async def test_failure_nobody_waits_for_any_more_disturbs_nobody(self, serve, lookup_at) -> None:
        gate, respond = held(reply(503))
        async with serve(respond) as server:
            lookup = lookup_at(server)
            caller = asyncio.create_task(lookup.find(NUMBER, NUMBER))
            await server.has_received.wait()
            caller.cancel()
            gate.set()
            with pytest.raises(asyncio.CancelledError):
                await caller
            with pytest.raises(MonitorUnavailableError):
                await lookup.find(NUMBER, NUMBER)

        assert len(server.received) == 4, "the second caller joined the first one's lookup"


class TestFindFailing:
    async def test_four_attempts_in_all_however_many_spellings(self, serve, lookup_at, time, counted) -> None:
        async with serve(reply(404), reply(500), None, reply(200, b"<html>"), reply(429)) as server:
            with counted(LOOKUPS, outcome="unavailable"), pytest.raises(MonitorUnavailableError) as caught:
                await lookup_at(server).find(NUMBER, NUMBER)

        assert caught.value.reason is Failure.RATE_LIMITED
        assert len(time.sleeps) == 3

    async def test_repeated_attempt_goes_on_with_the_spelling_that_failed(self, serve, lookup_at) -> None:
        async with serve(reply(404), reply(503), MATCH) as server:
            assert await lookup_at(server).find(NUMBER, NUMBER) == "t-1"

        assert [target.partition("=")[2] for target in server.targets] == [
            "%2B14155550123",
            "4155550123",
            "4155550123",
        ]

    async def test_silent_monitor_is_unavailable(self, serve, time) -> None:
        async with create_http_client(read_timeout_s=0.01) as http, serve(b"") as server:
            lookup = TenantLookup(MonitorClient(http, base_url=server.base_url), timing=time.timing)
            with pytest.raises(MonitorUnavailableError) as caught:
                await lookup.find(NUMBER, NUMBER)

        assert caught.value.reason is Failure.NO_RESPONSE

    async def test_refused_key_is_not_repeated(self, serve, lookup_at, time) -> None:
        async with serve(reply(401)) as server:
            with pytest.raises(MonitorUnavailableError) as caught:
                await lookup_at(server).find(NUMBER, NUMBER)

        assert (caught.value.reason, caught.value.retry_after_s) == (Failure.CREDENTIALS_REFUSED, 60)
        assert len(server.received) == 1

    async def test_failure_is_not_remembered(self, serve, lookup_at) -> None:
        async with serve(*[reply(500)] * 4, MATCH) as server:
            lookup = lookup_at(server)
            with pytest.raises(MonitorUnavailableError):
                await lookup.find(NUMBER, NUMBER)
            assert lookup.health().state is MonitorState.UNAVAILABLE
            assert await lookup.find(NUMBER, NUMBER) == "t-1"
            assert lookup.health().state is MonitorState.OK

    async def test_log_has_only_the_masked_number(self, serve, lookup_at) -> None:
        async with serve(reply(500)) as server:
            with capture_logs() as logs, pytest.raises(MonitorUnavailableError):
                await lookup_at(server).find(NUMBER, NUMBER)

        assert [(entry["event"], entry["phone"]) for entry in logs] == [("tenants.lookup.unavailable", "***0123")]
        assert "415555" not in str(logs)


class TestFindDuringAnOutage:
    async def test_fails_at_once_after_failures_in_a_row(self, serve, lookup_at, counted) -> None:
        async with serve(reply(500)) as server:
            lookup = lookup_at(server, threshold=2)
            for number in ("+14155550101", "+14155550102"):
                with pytest.raises(MonitorUnavailableError):
                    await lookup.find(number, number)
            asked_before = len(server.received)
            with counted(LOOKUPS, outcome="circuit_open"), pytest.raises(MonitorUnavailableError) as caught:
                await lookup.find(NUMBER, NUMBER)

        assert len(server.received) == asked_before == 8
        assert caught.value.reason is Failure.CIRCUIT_OPEN
        assert caught.value.retry_after_s == 6

    async def test_probe_asks_once_and_a_good_answer_ends_the_outage(self, serve, lookup_at, time) -> None:
        async with serve(*[reply(500)] * 5, MATCH) as server:
            lookup = lookup_at(server, threshold=1)
            with pytest.raises(MonitorUnavailableError):
                await lookup.find(NUMBER, NUMBER)
            time.advance(4)
            with pytest.raises(MonitorUnavailableError):
                await lookup.find(NUMBER, NUMBER)
            assert len(server.received) == 5, "four attempts, then a probe of one"
            time.advance(4)
            assert await lookup.find(NUMBER, NUMBER) == "t-1"
            assert await lookup.find("+34612345678", "+34612345678") == "t-1"

    async def test_lookups_under_way_stop_repeating_once_it_is_open(self, serve, lookup_at) -> None:
        gate, respond = held(reply(500))
        async with serve(respond, reply(500)) as server:
            lookup = lookup_at(server, threshold=1)
            under_way = asyncio.create_task(lookup.find(NUMBER, NUMBER))
            await server.has_received.wait()
            with pytest.raises(MonitorUnavailableError):
                await lookup.find("+34612345678", "+34612345678")
            gate.set()
            with pytest.raises(MonitorUnavailableError):
                await under_way

        assert len([target for target in server.targets if "4155550123" in target]) == 1


class TestAclose:
    async def test_cancels_what_is_under_way(self, serve, lookup_at) -> None:
        _, respond = held(MATCH)
        async with serve(respond) as server:
            lookup = lookup_at(server)
            caller = asyncio.create_task(lookup.find(NUMBER, NUMBER))
            await server.has_received.wait()
            await lookup.aclose()
            await lookup.aclose()
            with pytest.raises(asyncio.CancelledError):
                await caller

"""Rates whose cells are keys in Redis: one script reserves any number of slots of any number of keys.

Needs the optional `redis` package, so only the composition root imports this, when REDIS_URL is set.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from sms_foundation.core.errors import StartupError
from sms_foundation.core.rates.base import Asked, Outcome, RatesUnavailableError, Take, Wish, outcome_at
from sms_foundation.core.saturation import Use

# The braces keep all cells on one node of a cluster, where one script can reach them.
_PREFIX = "{sms-rates}:"
_TIMEOUT_S = 2.0

# KEYS are the distinct keys; ARGV holds, for each of them, how many wishes it has and then their cost and horizon.
# Returns the start of each wish's slot in that order. All times are microseconds, which a Lua number holds exactly. A
# cell lives until its time has come: after that, having none means the same. Its time always lies ahead here: a wish
# was granted and moved it on, or was denied because it lay ahead.
_RESERVE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local starts, next = {}, 1
for _, key in ipairs(KEYS) do
    local start = math.max(0, (redis.call('GET', key) or 0) - now)
    local stop = next + 1 + 2 * ARGV[next]
    for wish = next + 1, stop - 1, 2 do
        starts[#starts + 1] = start
        if start <= tonumber(ARGV[wish + 1]) then
            start = start + ARGV[wish]
        end
    end
    redis.call('SET', key, string.format('%.0f', now + start), 'PX', math.ceil(start / 1000))
    next = stop
end
return starts
"""

# A key that is gone has all its room already.
_GIVE_BACK = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
for index, key in ipairs(KEYS) do
    local start = (redis.call('GET', key) or 0) - now - ARGV[index]
    if start > 0 then
        redis.call('SET', key, string.format('%.0f', now + start), 'PX', math.ceil(start / 1000))
    else
        redis.call('DEL', key)
    end
end
return {}
"""

_READ = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local starts = {}
for _, key in ipairs(KEYS) do
    starts[#starts + 1] = math.max(0, (redis.call('GET', key) or 0) - now)
end
return starts
"""


class RedisRates:
    """`base.Rates` on the clock of one Redis server (5 or newer), by scripts that it runs one at a time.

    Connects when first used. Raises StartupError, without the URL in its text, when `url` is not one of Redis.
    """

    def __init__(self, url: str) -> None:
        try:
            self._redis: Redis = Redis.from_url(
                url,
                socket_timeout=_TIMEOUT_S,
                socket_connect_timeout=_TIMEOUT_S,
                # Once more, for a connection that died while idle; if the first try had arrived, its slots are wasted.
                retry=Retry(NoBackoff(), 1),
            )
        except ValueError:
            raise StartupError("REDIS_URL must look like redis://user:password@host:6379/0") from None
        self._reserve_script = self._redis.register_script(_RESERVE)
        self._give_back_script = self._redis.register_script(_GIVE_BACK)
        self._read_script = self._redis.register_script(_READ)
        self._under_way = 0
        self._errors = Counter(failed=0)

    def use(self) -> Use:
        """Tell how many questions are under way, each on a connection of its own; nobody waits for one."""
        return Use(self._redis.connection_pool.max_connections, self._under_way, 0, self._errors)

    async def reserve(self, wishes: Sequence[Wish]) -> list[Outcome]:
        """See `base.Rates`. One round trip."""
        return await self._reserve(wishes)

    async def take(self, takes: Sequence[Take]) -> list[Outcome]:
        """See `base.Rates`. One round trip; to Redis it is the same as reserving."""
        return await self._reserve(takes)

    async def give_back(self, costs_us: Mapping[str, int]) -> None:
        """See `base.Rates`. One round trip."""
        await self._run(self._give_back_script, list(costs_us), list(costs_us.values()))

    async def _reserve(self, wishes: Sequence[Asked]) -> list[Outcome]:
        runs: dict[str, list[int]] = {}
        for index, wish in enumerate(wishes):
            runs.setdefault(wish.key, []).append(index)
        arguments: list[int] = []
        for run in runs.values():
            arguments.append(len(run))
            for index in run:
                arguments += (wishes[index].cost_us, wishes[index].horizon_us)
        starts = await self._run(self._reserve_script, list(runs), arguments)
        indexes = (index for run in runs.values() for index in run)
        start_of = dict(zip(indexes, starts, strict=True))
        return [outcome_at(wish, start_of[index]) for index, wish in enumerate(wishes)]

    async def read(self, keys: Sequence[str]) -> dict[str, float]:
        """See `base.Rates`. One round trip."""
        starts = await self._run(self._read_script, keys, [])
        return {key: start_us / 1_000_000 for key, start_us in zip(keys, starts, strict=True)}

    async def close(self) -> None:
        """Close every connection. Idempotent."""
        await self._redis.aclose()

    async def _run(self, script: AsyncScript, keys: Sequence[str], arguments: Sequence[int]) -> list[int]:
        self._under_way += 1
        try:
            answer = await script(keys=[_PREFIX + key for key in keys], args=arguments)
        except (RedisError, OSError) as error:
            self._errors["failed"] += 1
            reason = f"{type(error).__name__}: {str(error)[:200]}"
            raise RatesUnavailableError(f"the Redis server that keeps rates: {reason}") from error
        finally:
            self._under_way -= 1
        return cast(list[int], answer)

"""What nobody is near any more is deleted with everything else that access control needs no longer."""

from sms_foundation.auth.limits.limiter import Limiter
from sms_foundation.auth.limits.meter import Meter
from sms_foundation.auth.tidying import TIDY_ACCESS, Tidying
from sms_foundation.core.db import Database
from sms_foundation.core.ids import NIL, new_id
from sms_foundation.core.work.queue import Work


class TestTidying:
    async def test_cells_of_numbers_not_texted_for_hours_are_deleted_however_many(
        self, meter: Meter, database: Database
    ) -> None:
        limiter = Limiter(meter, client_limit="off", number_limit="60/1h")
        await limiter.admit_numbers([(f"+1415{n:07}", False) for n in range(1000)])
        await database.pool.execute(
            "UPDATE rate_cells SET tat = tat - interval '2 hours';"
            "INSERT INTO rate_cells SELECT n, now() - interval '2 hours' FROM generate_series(1, 12000) AS n"
        )
        await limiter.admit_numbers([("+14155550123", False)])

        await Tidying(database).tidy(Work(1, TIDY_ACCESS, NIL, 0, new_id()))

        rows = await database.pool.fetch("SELECT key FROM rate_cells")
        assert [row["key"] for row in rows] == ["number:+14155550123:60/1h"]

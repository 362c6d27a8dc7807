"""How far apart slots must be, so that what leaves a little late still never comes too fast."""


def interval_for(limit_per_s: float, late_s: float = 0.1) -> float:
    """Return the seconds between slots that keep to `limit_per_s` (> 0) when each is used up to `late_s` s (>= 0) late.

    What happens within one second (from t up to but not at t + 1) had its slot in [t - late, t + 1). With slots
    (1 + late) / limit apart, k of them span (k - 1) * (1 + late) / limit < 1 + late, hence k < limit + 1.

    So no sliding second ever sees more than `limit_per_s`, rounded up; and, below one per second, no sliding
    1 / `limit_per_s` seconds see more than one. A slot of several units counts as the first of them: what goes out
    whole comes whole. The price is the share `late_s` / (1 + `late_s`) of the limit that is never used.
    """
    return (1 + late_s) / limit_per_s

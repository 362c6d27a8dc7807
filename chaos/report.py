"""What a run has shown: one table for people, one JSON object for programs."""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from chaos.count import Count
from chaos.plan import Fault
from chaos.record import Arrival, Evidence

_SHOWN: Final = 20


@dataclass(slots=True)
class Run:
    """The frame of a run: what was asked for, on what, and how it went."""

    seed: int
    seconds: float
    machine: str
    settings: Mapping[str, str] = field(default_factory=dict)
    """Of services and worker, where they are not as usual."""
    reconciles: bool = False
    """Whether the operator's command is run at the end."""
    database: str = ""
    settled_after_s: float = 0.0
    faults: list[Fault] = field(default_factory=list)
    strikes: Mapping[str, int] = field(default_factory=dict)
    """How often providers and receipts went wrong, by kind."""


def figures(run: Run, evidence: Evidence) -> dict[str, Any]:
    """Return how much was done, so that zeros can be weighed."""
    acknowledged = {each.message for each in evidence.webhooks if each.is_acknowledged}
    stored = {each.sid for each in evidence.history if each.is_inbound}
    unheard = [text.sid for text in evidence.texts if not text.is_acknowledged]
    arrived = sum(each.has_arrived for each in evidence.arrivals)
    statuses = Counter(each.status for each in evidence.history if not each.is_inbound)
    return {
        "texts": len(evidence.texts),
        "texts_acknowledged": len(evidence.texts) - len(unheard),
        "texts_nobody_acknowledged": len(unheard),
        "of_these_stored_all_the_same": sum(sid in stored for sid in unheard),
        "webhook_requests": len(evidence.webhooks),
        "webhook_requests_without_success": sum(not each.is_acknowledged for each in evidence.webhooks),
        "acknowledged_at_the_fallback_url": sum(
            each.is_fallback and each.is_acknowledged for each in evidence.webhooks
        ),
        "receipts_acknowledged": len(acknowledged - {text.sid for text in evidence.texts}),
        "sends": len(evidence.sends),
        "sends_asked_for_more_than_once": sum(each.tries > 1 for each in evidence.sends),
        "sends_that_took_more_than_one_call": sum(each.attempts > 1 for each in evidence.sends),
        "sends_of_unknown_fate_for_a_while": sum(each.was_unknown for each in evidence.sends),
        "sends_by_state": dict(statuses.most_common()),
        "sends_for_a_person": len(evidence.dead),
        "texts_that_reached_phones": arrived,
        "texts_sent_in_each_10_s": _by_time(evidence.arrivals),
        "reads": evidence.reads,
        "faults": len(run.faults),
        "provider_requests_and_receipts_spoilt": dict(run.strikes),
        "settled_after_s": round(run.settled_after_s, 1),
    }


def _by_time(arrivals: Sequence[Arrival], step_s: float = 10.0) -> list[int]:
    """Return how many were accepted in each stretch of time, from the first one on: a run that sends nothing shows."""
    begun_s = min((each.accepted_s for each in arrivals), default=0.0)
    steps = Counter(int((each.accepted_s - begun_s) // step_s) for each in arrivals)
    return [steps[number] for number in range(max(steps, default=-1) + 1)]


def table(counts: Sequence[Count]) -> str:
    """Return the counts as a Markdown table."""
    rows = [
        f"| {count.claim} | {len(count.found)} | {'yes' if count.is_zero else '**NO**'} | {count.note} |"
        for count in counts
    ]
    return "\n".join(["| count | found | zero, as it must be | |", "|---|---|---|---|", *rows])


def failures(counts: Sequence[Count], run: Run) -> str:
    """Return what is not zero, with ids and how to see it again; "" when all is."""
    wrong = [count for count in counts if not count.is_zero]
    if not wrong:
        return ""
    lines = [f"FAILED with seed {run.seed}"]
    for count in wrong:
        lines.append(f"\n{count.claim}: {len(count.found)}")
        lines += [f"  {found}" for found in count.found[:_SHOWN]]
        if len(count.found) > _SHOWN:
            lines.append(f"  and {len(count.found) - _SHOWN} more")
    settings = "".join(f" --set {name}={value}" for name, value in run.settings.items())
    again = f"python -m chaos --seed {run.seed} --seconds {run.seconds:g}{settings}"
    lines.append(f"\nthe same faults again: CHAOS_SEED={run.seed} CHAOS_SECONDS={run.seconds:g} make chaos, or {again}")
    return "\n".join(lines)


def as_json(run: Run, evidence: Evidence, counts: Sequence[Count]) -> dict[str, Any]:
    """Return everything that was found, whole lists of ids included."""
    return {
        "seed": run.seed,
        "seconds": run.seconds,
        "machine": run.machine,
        "database": run.database,
        "settings": dict(run.settings),
        "passed": all(count.is_zero for count in counts),
        "counts": [
            {"claim": count.claim, "count": len(count.found), "found": list(count.found), "note": count.note}
            for count in counts
        ],
        "figures": figures(run, evidence),
        "faults": [
            {"at_s": fault.at_s, "target": fault.target, "kind": fault.kind.value, "for_s": fault.for_s}
            for fault in run.faults
        ],
    }


def tell(run: Run, evidence: Evidence, counts: Sequence[Count], path: Path | None) -> int:
    """Print table and figures, on standard error what is wrong; write the JSON to `path`. Returns the exit status."""
    print(f"{run.machine}, {run.database}; seed {run.seed}, {run.seconds:g} s\n\n{table(counts)}\n")
    print("\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in figures(run, evidence).items()))
    if path is not None:
        content = json.dumps(as_json(run, evidence, counts), indent=2)
        path.write_text(content + "\n", encoding="utf-8")
    if wrong := failures(counts, run):
        print(f"\n{wrong}", file=sys.stderr)
        return 1
    return 0

"""Scenario files: how long messages travel and how the providers misbehave, repeatable by seed.

A scenario is a TOML file (or JSON of the same shape, named .json), given to `sms-foundation simulator --scenario`:

    seed = 7                      # draws the same again: travel times, and whom a share strikes

    [travel]                      # seconds from accepting a message to the phone
    shortest_s = 0.2
    longest_s = 1.0

    [[faults]]                    # any number of these; the fields are those of POST /simulator/faults
    kind = "server_error"
    provider = "twilio"
    share = 0.3
    after_s = 60                  # begins a minute after the simulator started
    for_s = 30                    # and lasts half a minute

Everything may be left out. Shipped ones can be named without a path: `rough-day`.
"""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic import ValidationError as InvalidModelError

from sms_foundation.core.errors import SmsFoundationError, StartupError
from sms_foundation.simulator.faults.rules import FaultRule
from sms_foundation.simulator.faults.schemas import FaultIn

SHIPPED: Final = Path(__file__).parent / "scenarios"
_SHORTEST_S: Final = 0.2
_LONGEST_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class TravelTime:
    """Seconds from accepting a message to the phone, evenly drawn between the two."""

    shortest_s: float = _SHORTEST_S
    longest_s: float = _LONGEST_S


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a simulator starts with."""

    seed: int = 1
    travel: TravelTime = TravelTime()
    faults: tuple[FaultRule, ...] = ()


NO_SCENARIO: Final = Scenario()
"""Providers that behave."""


class _TravelIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    shortest_s: float = Field(default=_SHORTEST_S, ge=0, le=3_600)
    longest_s: float = Field(default=_LONGEST_S, ge=0, le=3_600)


class _ScenarioIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    seed: int = 1
    travel: _TravelIn = _TravelIn()
    faults: list[FaultIn] = []


def list_shipped() -> list[str]:
    """Return the names of the scenarios that come along."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def read_scenario(name: str) -> Scenario:
    """Read a scenario file, or a shipped one by its name.

    Raises StartupError with one line that says what is wrong with it.
    """
    path = SHIPPED / f"{name}.toml" if name in list_shipped() else Path(name)
    try:
        text = path.read_text("utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        read = _ScenarioIn.model_validate(values)
    except OSError as error:
        shipped = ", ".join(list_shipped())
        raise StartupError(f"scenario {name}: {error.strerror}; a file, or one of: {shipped}") from None
    except InvalidModelError as error:
        problems = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        raise StartupError(f"scenario {name}: {'; '.join(problems)}") from None
    except (ValueError, SmsFoundationError) as error:
        raise StartupError(f"scenario {name}: {error}") from None
    if read.travel.shortest_s > read.travel.longest_s:
        raise StartupError(f"scenario {name}: travel: shortest_s is more than longest_s")
    travel = TravelTime(read.travel.shortest_s, read.travel.longest_s)
    return Scenario(read.seed, travel, tuple(fault.to_rule() for fault in read.faults))

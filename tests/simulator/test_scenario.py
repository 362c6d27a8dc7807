from pathlib import Path

import pytest

from sms_foundation.core.errors import StartupError
from sms_foundation.simulator.faults.rules import FaultKind, FaultRule
from sms_foundation.simulator.scenario import Scenario, TravelTime, list_shipped, read_scenario


def write(folder: Path, text: str, name: str = "day.toml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


class TestReadScenario:
    def test_everything_may_be_left_out(self, tmp_path: Path) -> None:
        assert read_scenario(write(tmp_path, "")) == Scenario()

    def test_toml(self, tmp_path: Path) -> None:
        text = """
            seed = 7
            [travel]
            longest_s = 3
            [[faults]]
            kind = "html"
            number = "+1 512 555 0142"
            after_s = 60
        """
        assert read_scenario(write(tmp_path, text)) == Scenario(
            7, TravelTime(0.2, 3), (FaultRule(kind=FaultKind.HTML, number="+15125550142", after_s=60),)
        )

    def test_json_of_the_same_shape(self, tmp_path: Path) -> None:
        text = '{"seed": 3, "faults": [{"kind": "drop_after", "share": 0.5}]}'
        scenario = read_scenario(write(tmp_path, text, "day.json"))
        assert scenario == Scenario(3, faults=(FaultRule(kind=FaultKind.DROP_AFTER, share=0.5),))

    def test_the_shipped_ones_by_name(self) -> None:
        assert "rough-day" in list_shipped()
        for name in list_shipped():
            assert read_scenario(name).faults

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("seed = 'many'", "seed"),
            ("[[faults]]\nkind = 'earthquake'", "faults.0.kind"),
            ("[[faults]]\nkind = 'html'\nnumber = 'nobody at all'", "not an address"),
            ("[travel]\nshortest_s = 2\nlongest_s = 1", "travel"),
            ("[weather]\nrain = true", "weather"),
            ("seed = ", "scenario"),
        ],
    )
    def test_what_is_wrong_is_said_in_one_line(self, tmp_path: Path, text: str, problem: str) -> None:
        with pytest.raises(StartupError, match=problem) as refused:
            read_scenario(write(tmp_path, text))
        assert "\n" not in str(refused.value)

    def test_a_file_that_is_not_there_names_those_that_come_along(self) -> None:
        with pytest.raises(StartupError, match="rough-day"):
            read_scenario("sunny-day")

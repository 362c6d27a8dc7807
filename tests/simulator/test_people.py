import pytest

from sms_foundation.simulator.people import LANGUAGES, MAX_PEOPLE, make_people


class TestMakePeople:
    def test_one_seed_makes_the_same_people_whatever_the_total(self) -> None:
        assert make_people(40, seed=7) == make_people(400, seed=7)[:40]
        assert make_people(40, seed=7) != make_people(40, seed=8)

    @pytest.mark.parametrize("seed", [1, 2, 2026])
    def test_everybody_has_a_number_of_their_own_and_all_languages_occur(self, seed: int) -> None:
        people = make_people(MAX_PEOPLE, seed=seed)
        assert len({person.number for person in people}) == MAX_PEOPLE
        assert {person.language for person in people} == set(LANGUAGES)

    def test_more_than_there_are_numbers_for_is_refused(self) -> None:
        with pytest.raises(ValueError, match="at most"):
            make_people(MAX_PEOPLE + 1, seed=1)

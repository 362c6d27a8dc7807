import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.core.errors import NotFoundError
from sms_foundation.simulator.errors import ConflictError
from sms_foundation.simulator.monitor.tenants import (
    SPELLINGS,
    STRANGER_NUMBER,
    Tenant,
    TenantDirectory,
    example_tenant,
    make_tenants,
    spell,
)


def tenant(tenant_id: str, *numbers: str) -> Tenant:
    return Tenant(tenant_id, "", "", "", numbers, numbers[0], None)


class TestMakeTenants:
    def test_the_same_few_hundred_every_time(self) -> None:
        assert make_tenants() == make_tenants()
        assert len(make_tenants()) == 300

    def test_each_is_found_by_exactly_one_spelling_of_the_number_it_texts_from(self) -> None:
        directory = TenantDirectory(make_tenants())
        found_by = []
        for each in make_tenants():
            spellings = [name for name in SPELLINGS if directory.find_by_number(spell(each.texts_from, name))]
            assert len(spellings) == 1
            found_by += spellings
        assert {name: found_by.count(name) for name in SPELLINGS} == dict.fromkeys(SPELLINGS, 100)

    def test_some_have_two_phones_and_no_number_is_shared(self) -> None:
        numbers = [number for each in make_tenants() for number in each.phone_numbers]
        assert len(numbers) == len(set(numbers)) == 330


class TestExamples:
    def test_the_example_tenant_is_known_and_the_stranger_is_not(self) -> None:
        directory = TenantDirectory(make_tenants())
        tenant = example_tenant()
        assert (tenant.texts_in, tenant.texts_from[:2]) == ("es", "+1")
        assert any(directory.find_by_number(spell(tenant.texts_from, name)) for name in SPELLINGS)
        assert not any(directory.find_by_number(spell(STRANGER_NUMBER, name)) for name in SPELLINGS)


class TestSpell:
    @pytest.mark.parametrize(
        ("number", "national"),
        [("+15125550142", "5125550142"), ("+351910000001", "910000001"), ("+5511900000001", "11900000001")],
    )
    def test_each_way_of_typing_a_number_in(self, number: str, national: str) -> None:
        assert spell(number, "e164") == number
        assert spell(number, "digits_only") == number[1:]
        assert spell(number, "country_stripped") == national


class TestTenantDirectory:
    def test_numbers_are_compared_as_typed(self) -> None:
        directory = TenantDirectory([tenant("t1", "5125550142")])
        assert directory.find_by_number("5125550142") is not None
        assert directory.find_by_number("+15125550142") is None

    @given(st.lists(st.sampled_from(["en", "es", "pt"])))
    def test_repeating_a_language_changes_nothing(self, languages: list[str]) -> None:
        once, twice = (TenantDirectory([tenant("t1", "1")]) for _ in range(2))
        for language in languages:
            once.set_language("t1", language)
            twice.set_language("t1", language)
            twice.set_language("t1", language)
        assert once.get("t1") == twice.get("t1")

    def test_an_unknown_tenant_is_not_found(self) -> None:
        with pytest.raises(NotFoundError):
            TenantDirectory().set_language("t1", "es")

    @pytest.mark.parametrize("newcomer", [tenant("t1", "2"), tenant("t2", "1")])
    def test_an_id_or_number_that_is_taken_is_refused(self, newcomer: Tenant) -> None:
        directory = TenantDirectory([tenant("t1", "1")])
        with pytest.raises(ConflictError):
            directory.add(newcomer)
        assert len(directory) == 1

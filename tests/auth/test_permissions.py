"""What roles allow: a union with the laws of one, and three built-in roles each of which includes the one before."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sms_foundation.auth.permissions import (
    ALL,
    BEYOND_TEST,
    BUILT_IN_ROLES,
    MEANING,
    NONE,
    Permission,
    Permissions,
    granted_by,
    known_permissions,
    union,
)

PERMISSIONS = st.frozensets(st.sampled_from(Permission))
OWN_ROLES = st.dictionaries(st.sampled_from(["sender", "reader", "auditor", "nobody"]), PERMISSIONS)
ROLES = st.lists(st.sampled_from([*BUILT_IN_ROLES, "sender", "reader", "auditor", "nobody", "deleted"]), max_size=6)


class TestUnion:
    @given(PERMISSIONS, PERMISSIONS)
    def test_is_commutative(self, first: Permissions, second: Permissions) -> None:
        assert union(first, second) == union(second, first)

    @given(PERMISSIONS, PERMISSIONS, PERMISSIONS)
    def test_is_associative(self, first: Permissions, second: Permissions, third: Permissions) -> None:
        assert union(union(first, second), third) == union(first, union(second, third))

    @given(PERMISSIONS)
    def test_is_idempotent_and_none_is_neutral(self, some: Permissions) -> None:
        assert union(some, some) == some
        assert union(some, NONE) == some == union(NONE, some)

    @given(PERMISSIONS, PERMISSIONS)
    def test_allows_what_either_does_and_nothing_else(self, first: Permissions, second: Permissions) -> None:
        for permission in Permission:
            assert (permission in union(first, second)) == (permission in first or permission in second)


class TestGrantedBy:
    @given(st.data(), ROLES, OWN_ROLES)
    def test_neither_order_nor_repetition_matters(
        self, data: st.DataObject, roles: list[str], own: Mapping[str, Permissions]
    ) -> None:
        shuffled = data.draw(st.permutations(roles + roles))

        assert granted_by(shuffled, own) == granted_by(roles, own)

    @given(ROLES, ROLES, OWN_ROLES)
    def test_of_two_lists_is_the_union_of_both(
        self, first: list[str], second: list[str], own: Mapping[str, Permissions]
    ) -> None:
        assert granted_by(first + second, own) == union(granted_by(first, own), granted_by(second, own))

    @given(ROLES, OWN_ROLES)
    def test_one_more_role_never_takes_anything_away(self, roles: list[str], own: Mapping[str, Permissions]) -> None:
        for role in BUILT_IN_ROLES:
            assert granted_by(roles, own) <= granted_by([*roles, role], own)

    def test_no_role_and_a_role_that_does_not_exist_allow_nothing(self) -> None:
        assert granted_by([], {}) == NONE
        assert granted_by(["deleted"], {"sender": ALL}) == NONE

    def test_a_role_of_ones_own_cannot_change_a_built_in_one(self) -> None:
        assert granted_by(["viewer"], {"viewer": ALL}) == BUILT_IN_ROLES["viewer"]


class TestBuiltInRoles:
    def test_each_is_strictly_less_than_the_next_and_the_last_is_everything(self) -> None:
        viewer, operator, admin = (BUILT_IN_ROLES[name] for name in ("viewer", "operator", "admin"))

        assert NONE < viewer < operator < admin == ALL

    def test_a_viewer_sees_no_content_and_changes_nothing(self) -> None:
        assert Permission.MESSAGES_READ_CONTENT not in BUILT_IN_ROLES["viewer"]
        assert not any(name.endswith((":write", ":send", ":manage", ":control")) for name in BUILT_IN_ROLES["viewer"])

    @pytest.mark.parametrize(
        "permission",
        [Permission.CLIENTS_MANAGE, Permission.CLIENTS_READ, Permission.ROLES_MANAGE, Permission.AUDIT_READ],
    )
    def test_access_itself_is_for_admins(self, permission: Permission) -> None:
        assert permission not in BUILT_IN_ROLES["operator"]


class TestPermission:
    def test_each_has_a_meaning_in_words(self) -> None:
        assert set(MEANING) == ALL
        assert all(MEANING.values())

    def test_names_of_another_version_allow_nothing(self) -> None:
        assert known_permissions(["messages:send", "messages:recall", ""]) == {Permission.MESSAGES_SEND}

    def test_a_test_key_cannot_make_a_live_one(self) -> None:
        assert {Permission.CLIENTS_MANAGE, Permission.ROLES_MANAGE} <= BEYOND_TEST

"""Keys that grow old, and settings that contradict each other or the place they are in."""

from typing import Any

import orjson
import pytest

from sms_foundation.core.config import LOCAL_PHONE_NUMBER, Settings
from sms_foundation.core.ids import new_id
from sms_foundation.doctor.access import check_access
from sms_foundation.doctor.configuration import check_settings
from sms_foundation.doctor.context import Context
from sms_foundation.doctor.findings import Report, Severity
from sms_foundation.doctor.limits import Limits
from sms_foundation.doctor.reading import Reader
from sms_foundation.providers.configured import configured_providers
from tests.doctor.examined import Examined, Patient
from tests.support.service import make_settings


async def check(patient: Patient, what: Any, settings: Settings | None = None) -> Examined:
    settings = settings or patient.settings
    context = Context(
        settings=settings,
        configs=configured_providers(settings),
        reader=Reader(patient.database, first_step=1),
        since=None,
        limits=Limits.of(settings),
        report=Report(),
    )
    return Examined(Report(await what(context)))


async def add_key(patient: Patient, prefix: str, **columns: str) -> None:
    """Store a key of the client `caller`; `columns` are SQL expressions."""
    await patient.run(
        "INSERT INTO auth_clients (id, kind, roles) VALUES ('caller', 'service', '{}') ON CONFLICT DO NOTHING"
    )
    values = {"created_at": "now()", "last_used_at": "now()", **columns}
    await patient.run(
        f"INSERT INTO auth_api_keys (id, client_id, name, prefix, digest, is_test, {', '.join(values)}) "
        f"VALUES ($1, 'caller', 'x', $2, $3, false, {', '.join(values.values())})",
        new_id(),
        prefix,
        prefix.encode(),
    )


class TestKeys:
    async def test_that_end_soon_unless_replaced_or_over(self, patient: Patient) -> None:
        await add_key(patient, "soon", expires_at="now() + interval '3 days'")
        await add_key(patient, "later", expires_at="now() + interval '30 days'")
        await add_key(patient, "never")
        await add_key(patient, "over", expires_at="now() - interval '1 day'")
        replaced = {"expires_at": "now() + interval '3 days'", "revoked_at": "now() + interval '1 day'"}
        await add_key(patient, "replaced", **replaced)

        found = await check(patient, check_access)

        assert found["keys_end_soon"].examples == ("soon",)
        assert found.names() == {"keys_end_soon"}

    async def test_that_nobody_ever_used(self, patient: Patient) -> None:
        await add_key(patient, "unused", created_at="now() - interval '60 days'", last_used_at="NULL")
        await add_key(patient, "new", last_used_at="NULL")
        await add_key(patient, "used", created_at="now() - interval '60 days'")

        found = await check(patient, check_access)

        assert (found["keys_never_used"].examples, found.names()) == (("unused",), set())

    async def test_of_a_disabled_client_are_of_no_concern(self, patient: Patient) -> None:
        await add_key(patient, "soon", expires_at="now() + interval '3 days'")
        await patient.run("UPDATE auth_clients SET disabled_at = now()")

        assert (await check(patient, check_access)).report.findings == []

    async def test_signing_key_that_should_have_been_replaced(self, patient: Patient) -> None:
        add = "INSERT INTO auth_signing_keys (kid, public_jwk, created_at, retires_at) VALUES ($1, '{{}}', {})"
        await patient.run(add.format("now() - interval '200 days', NULL"), "old")
        await patient.run(add.format("now() - interval '300 days', now()"), "replaced")
        await patient.run(add.format("now() - interval '20 days', NULL"), "new")

        found = await check(patient, check_access)

        assert (found["signing_key_old"].examples, found["signing_key_old"].severity) == (("old",), Severity.NOTICE)


def in_production(*accounts: dict[str, Any], **changes: Any) -> Settings:
    """Settings as they should be, but for `changes`."""
    return make_settings(
        **{
            "app_env": "production",
            "database_url": "postgresql://localhost/x",
            "providers": orjson.dumps(accounts or (account("a"), account("b"))).decode(),
            **changes,
        }
    )


def account(name: str, **changes: Any) -> dict[str, Any]:
    values = {"kind": "twilio", "name": name, "account_sid": "AC" + "1" * 32, "auth_token": "s3cr3t"}
    return {**values, "senders": ["+14155550100"], **changes}


class TestSettings:
    async def test_that_fit_together(self, patient: Patient) -> None:
        found = await check(patient, check_settings, in_production())

        assert found.report.findings == []

    @pytest.mark.parametrize(
        ("settings", "name", "severity"),
        [
            (in_production(providers="[]"), "no_providers", "wrong"),
            (in_production(account("a", weight=0)), "no_provider_sends", "wrong"),
            (in_production(account("a", senders=[])), "no_provider_sends", "wrong"),
            (in_production(account("a", account_sid="")), "no_provider_sends", "wrong"),
            (in_production(account("a")), "no_fallback_provider", "notice"),
            (in_production(account("a"), account("b", senders=[LOCAL_PHONE_NUMBER])), "test_providers", "wrong"),
            (
                in_production(account("a"), account("b", api_base_url="http://127.0.0.1:8001")),
                "test_providers",
                "wrong",
            ),
            (in_production(public_base_url="http://sms.example.com"), "public_url_not_https", "wrong"),
            (in_production(app_env="staging", public_base_url=None), "public_url_not_set", "wrong"),
            (in_production(work_lease_s=20), "lease_too_short", "wrong"),
            (in_production(unknown_give_up_s=20, unknown_settle_s=30), "unknown_given_up_at_once", "wrong"),
        ],
    )
    async def test_that_contradict(self, patient: Patient, settings: Settings, name: str, severity: str) -> None:
        found = await check(patient, check_settings, settings)

        assert [(each.name, each.severity) for each in found.report.findings] == [(name, severity)]
        assert "s3cr3t" not in repr(found.report)
        assert "4155550100" not in repr(found.report)

    async def test_no_signing_key_is_worth_knowing(self, patient: Patient) -> None:
        found = await check(patient, check_access, in_production())

        assert found["signing_key_not_set"].severity is Severity.NOTICE

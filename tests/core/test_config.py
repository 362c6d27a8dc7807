import re
from pathlib import Path

import pytest
from pydantic import AliasChoices
from pydantic_core import PydanticUndefined

from sms_foundation.core.config import (
    LOCAL_ACCOUNT_SID,
    LOCAL_AUTH_TOKEN,
    AppEnv,
    Settings,
    child_environment,
    load_settings,
)
from sms_foundation.core.errors import StartupError

PRODUCTION = {
    "APP_ENV": "production",
    "DATABASE_URL": "postgresql://sms:pg-secret@db.example.com/sms",
    "TWILIO_ACCOUNT_SID": "AC" + "1" * 32,
    "TWILIO_AUTH_TOKEN": "twilio-secret",
    "PUBLIC_BASE_URL": "https://sms.example.com",
}
EXAMPLE = Path(__file__).parents[2] / ".env.example"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without `.env` to be in; the environment holds no setting, which `tests/conftest.py` sees to."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def set_environment(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


class TestDefaults:
    def test_nothing_set_is_a_developers_machine_with_the_simulator(self) -> None:
        settings = load_settings()

        assert settings.app_env is AppEnv.LOCAL
        assert settings.is_local
        assert settings.should_migrate
        assert settings.uses_simulator
        assert settings.database_url is None
        assert settings.twilio_auth_tokens == (LOCAL_AUTH_TOKEN,)
        assert settings.twilio_account_sids == {LOCAL_ACCOUNT_SID}
        assert (settings.host, settings.port) == ("127.0.0.1", 8000)
        assert settings.public_base_urls == ("http://localhost:8000", "http://127.0.0.1:8000")
        assert settings.max_webhook_bytes == 256 * 1024

    def test_the_environment_wins_over_the_file_and_an_override_over_both(
        self, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (elsewhere / ".env").write_text("PORT=1111\nDEFAULT_REGION=MX\nLOG_LEVEL=DEBUG\n")
        set_environment(monkeypatch, PORT="2222", DEFAULT_REGION="BR")

        settings = load_settings(port=3333)

        assert (settings.port, settings.default_region, settings.log_level) == (3333, "BR", "DEBUG")

    def test_an_empty_variable_is_an_unset_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_environment(monkeypatch, DATABASE_URL="", PORT="", TWILIO_AUTH_TOKEN="")

        assert load_settings() == load_settings(database_url=None)

    def test_the_embedded_database_lives_in_the_users_state_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_environment(monkeypatch, XDG_STATE_HOME="/var/state")
        assert load_settings().sms_data_dir == Path("/var/state/sms-foundation")

        set_environment(monkeypatch, SMS_DATA_DIR="/data")
        assert load_settings().sms_data_dir == Path("/data")

    def test_a_home_folder_is_understood_where_no_shell_has_expanded_it(self, elsewhere: Path) -> None:
        (elsewhere / ".env").write_text("SMS_DATA_DIR=~/sms-data\n")

        assert load_settings().sms_data_dir == Path.home() / "sms-data"

    @pytest.mark.parametrize("level", ["debug", "Info", "WARNING"])
    def test_a_log_level_may_be_written_in_any_case(self, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
        set_environment(monkeypatch, LOG_LEVEL=level)

        assert load_settings().log_level == level.upper()


class TestTwilio:
    def test_both_tokens_are_accepted_during_a_rotation_the_current_one_first(self) -> None:
        settings = load_settings(twilio_auth_token="new", twilio_auth_token_previous="old")

        assert settings.twilio_auth_tokens == ("new", "old")
        assert not settings.uses_simulator

    def test_accounts_are_separated_by_commas(self) -> None:
        assert load_settings(twilio_account_sid=" AC1, AC2 ,,AC3").twilio_account_sids == {"AC1", "AC2", "AC3"}

    def test_with_a_token_and_no_account_every_account_is_accepted(self) -> None:
        assert load_settings(twilio_auth_token="real").twilio_account_sids == frozenset()

    def test_outside_local_no_token_means_no_webhooks(self) -> None:
        settings = load_settings(app_env="staging")

        assert settings.twilio_auth_tokens == ()
        assert settings.public_base_urls == ()

    def test_base_urls_lose_their_last_slash(self) -> None:
        settings = load_settings(public_base_url="https://sms.example.com/", monitor_api_url="http://monitor/v1//")

        assert settings.public_base_urls == ("https://sms.example.com",)
        assert settings.monitor_api_url == "http://monitor/v1"

    def test_a_base_url_without_scheme_is_refused(self) -> None:
        with pytest.raises(StartupError, match=r"PUBLIC_BASE_URL: must start with http:// or https://"):
            load_settings(public_base_url="sms.example.com")


class TestRefusals:
    def test_production_starts_with_everything_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_environment(monkeypatch, **PRODUCTION)

        settings = load_settings()

        assert not settings.is_local
        assert not settings.should_migrate
        assert settings.twilio_auth_tokens == ("twilio-secret",)

    @pytest.mark.parametrize("missing", sorted(PRODUCTION.keys() - {"APP_ENV"}))
    def test_production_names_what_is_missing(self, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
        set_environment(monkeypatch, **PRODUCTION)
        monkeypatch.delenv(missing)

        with pytest.raises(StartupError, match=f"invalid settings: {missing} must be set when APP_ENV=production"):
            load_settings()

    def test_production_names_all_that_is_missing_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_environment(monkeypatch, APP_ENV="production")

        with pytest.raises(StartupError) as caught:
            load_settings()

        assert all(name in str(caught.value) for name in PRODUCTION.keys() - {"APP_ENV"})

    @pytest.mark.parametrize("marker", ["K_SERVICE", "CLOUD_RUN_JOB", "CLOUD_RUN_WORKER_POOL"])
    def test_cloud_run_without_a_database_is_refused(self, marker: str, monkeypatch: pytest.MonkeyPatch) -> None:
        set_environment(monkeypatch, **PRODUCTION, **{marker: "sms"})
        monkeypatch.delenv("DATABASE_URL")

        with pytest.raises(StartupError, match=r"DATABASE_URL is not set: the embedded database cannot be used"):
            load_settings()

    def test_what_cloud_run_grants_after_sigterm_is_enough(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Source: https://cloud.google.com/run/docs/container-contract#instance-shutdown (read November 2026)"""
        set_environment(monkeypatch, **PRODUCTION, K_SERVICE="sms")

        assert load_settings().shutdown_timeout_s <= 10

    def test_cloud_run_is_production_and_listens_everywhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_environment(monkeypatch, **PRODUCTION, K_SERVICE="sms")
        monkeypatch.delenv("APP_ENV")

        assert (load_settings().app_env, load_settings().host) == (AppEnv.PRODUCTION, "0.0.0.0")  # noqa: S104
        assert load_settings(host="127.0.0.1").host == "127.0.0.1"

    @pytest.mark.parametrize("app_env", ["local", "test"])
    def test_cloud_run_is_nobodys_own_machine(self, app_env: str, monkeypatch: pytest.MonkeyPatch) -> None:
        set_environment(monkeypatch, **PRODUCTION | {"APP_ENV": app_env}, K_SERVICE="sms")

        with pytest.raises(StartupError, match="APP_ENV"):
            load_settings()

    @pytest.mark.parametrize("app_env", ["development", "staging", "production"])
    @pytest.mark.parametrize("name", ["TWILIO_AUTH_TOKEN", "TWILIO_AUTH_TOKEN_PREVIOUS"])
    def test_the_simulators_public_token_is_refused_outside_local(
        self, app_env: str, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_environment(monkeypatch, **PRODUCTION | {"APP_ENV": app_env, name: LOCAL_AUTH_TOKEN})

        with pytest.raises(StartupError, match="simulator's public token"):
            load_settings()

    @pytest.mark.parametrize("app_env", ["local", "test"])
    def test_the_simulators_public_token_is_fine_locally(self, app_env: str) -> None:
        assert load_settings(app_env=app_env, twilio_auth_token=LOCAL_AUTH_TOKEN).twilio_auth_tokens

    def test_every_wrong_setting_is_named_in_one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_environment(monkeypatch, PORT="eighty", APP_ENV="prod", DEFAULT_REGION="usa", DATABASE_POOL_SIZE="1")

        with pytest.raises(StartupError) as caught:
            load_settings()

        text = str(caught.value)
        assert "\n" not in text
        assert all(f"{name}: " in text for name in ("PORT", "APP_ENV", "DEFAULT_REGION", "DATABASE_POOL_SIZE"))

    def test_a_file_that_is_no_text_is_one_line_too(self, elsewhere: Path) -> None:
        (elsewhere / ".env").write_bytes(b"TWILIO_AUTH_TOKEN=\xff\xfesecret\n")

        with pytest.raises(StartupError) as caught:
            load_settings()

        assert "secret" not in str(caught.value)


class TestSecrets:
    def test_are_never_in_repr_or_str(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_environment(
            monkeypatch, **PRODUCTION, TWILIO_AUTH_TOKEN_PREVIOUS="previous-secret", ADMIN_API_KEY="api-secret"
        )
        settings = load_settings(monitor_api_key="monitor-secret")

        assert settings.twilio_auth_tokens == ("twilio-secret", "previous-secret")  # it keeps them, also when asked for
        for shown in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
            assert "secret" not in shown

    def test_are_never_in_the_text_of_a_refusal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_environment(monkeypatch, **PRODUCTION, PORT="my-secret", MONITOR_API_URL="ftp://u:my-secret@monitor")
        monkeypatch.delenv("PUBLIC_BASE_URL")

        with pytest.raises(StartupError) as caught:
            load_settings()

        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


class TestChildEnvironment:
    def test_is_ours_with_changes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        set_environment(monkeypatch, PORT="1", HOST="h")

        assert child_environment(PORT="2").items() >= {"PORT": "2", "HOST": "h"}.items()


def _variable(field: str) -> str:
    alias = Settings.model_fields[field].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else field.upper()


def _example_entries() -> dict[str, tuple[str, str]]:
    """What the file says: variable -> (the comment above it, the value)."""
    entries = {}
    for paragraph in EXAMPLE.read_text(encoding="utf-8").split("\n\n"):
        *comment, last = paragraph.strip().splitlines()
        if found := re.fullmatch(r"# ([A-Z_]+)=(.*)", last):
            assert found[1] not in entries, f"{found[1]} is there twice"
            entries[found[1]] = (" ".join(line.removeprefix("# ") for line in comment), found[2])
    return entries


class TestExampleFile:
    def test_lists_exactly_every_setting_with_its_description(self) -> None:
        expected = {_variable(name): field.description for name, field in Settings.model_fields.items()}

        assert {name: comment for name, (comment, _) in _example_entries().items()} == expected

    def test_shows_every_default(self) -> None:
        shown = {name: value for name, (_, value) in _example_entries().items()}
        for name, field in Settings.model_fields.items():
            if field.default not in (None, "", PydanticUndefined):
                value = {"true": "True", "false": "False"}.get(shown[_variable(name)], shown[_variable(name)])
                assert value == str(field.default), name

    def test_every_value_it_shows_is_valid(self, elsewhere: Path) -> None:
        lines = [f"{name}={value}" for name, (_, value) in _example_entries().items()]
        (elsewhere / ".env").write_text("\n".join(lines))

        assert load_settings().model_fields_set == set(Settings.model_fields)

    def test_changes_nothing_when_copied_as_it_is(self, elsewhere: Path) -> None:
        before = load_settings()
        (elsewhere / ".env").write_bytes(EXAMPLE.read_bytes())

        assert load_settings() == before
        assert load_settings().model_fields_set == before.model_fields_set

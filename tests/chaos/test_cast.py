"""Processes that are broken on purpose, one at a time."""

from pathlib import Path

import pytest

from chaos.cast import Actor


def test_one_that_runs_is_not_started_beside_itself(tmp_path: Path) -> None:
    nowhere = {"DATABASE_URL": "postgresql://sms@127.0.0.1:1/sms", "APP_ENV": "test", "SMS_DATA_DIR": str(tmp_path)}
    actor = Actor("worker", ["worker"], nowhere, tmp_path)
    actor.start()
    try:
        with pytest.raises(RuntimeError, match="runs already"):
            actor.start()
        assert actor.exit_status is None
        actor.kill()
        actor.start()
        assert actor.exit_status is None
    finally:
        actor.kill()
    assert actor.exit_status is not None

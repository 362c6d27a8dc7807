import pytest

from sms_foundation.core.config import Settings
from sms_foundation.core.db import Database
from tests.doctor.examined import Patient
from tests.support.service import make_settings


@pytest.fixture
def settings() -> Settings:
    """Without a public URL: nobody is called."""
    return make_settings(public_base_url=None)


@pytest.fixture
def patient(database: Database, settings: Settings) -> Patient:
    """The test's own database, and what can be put into it."""
    return Patient(database, settings)

"""The first start: a database without clients gets one admin, and whoever started the service its key."""

import asyncio
from collections.abc import Callable

import structlog
from pydantic import SecretStr

from sms_foundation.auth.clients.schemas import ClientBody
from sms_foundation.auth.clients.service import create_client, is_any_client_there
from sms_foundation.auth.keys.format import NewKey, as_new_key, is_test_key, is_well_formed, prefix_of
from sms_foundation.auth.keys.schemas import KeyBody
from sms_foundation.auth.keys.service import create_key
from sms_foundation.auth.permissions import ALL
from sms_foundation.auth.principal import SERVICE
from sms_foundation.auth.roles.granting import Grantor
from sms_foundation.auth.roles.service import lock_access
from sms_foundation.core.db import Database, explain_outage
from sms_foundation.core.errors import StartupError

log = structlog.get_logger(__name__)

ADMIN_ID = "admin"
_FIRST = Grantor(SERVICE, ALL)
_BANNER = """
FIRST START. This is the admin's API key, shown this once and stored nowhere:

    export SMS_API_KEY={key}

Callers on this machine need none while APP_ENV is local; everybody else does. Make a client and a key for each:

    sms-foundation clients create rent-reminder --role operator
    sms-foundation keys create rent-reminder production

Where logs keep what is printed here, replace it: sms-foundation keys rotate {prefix} --grace 0
"""


async def introduce_first_admin(
    database: Database, admin_api_key: SecretStr | None, announce: Callable[[str], None]
) -> None:
    """Make the first admin as soon as the database can be used, and announce its key if one was made for it.

    Ends when there are clients. Waits, with growing pauses, while the database is away or has no schema yet.
    """
    pause_s = 1.0
    while True:
        try:
            key = await make_first_admin(database, admin_api_key)
        except Exception as error:  # noqa: BLE001  # whatever is wrong now may be right later
            log.debug("access.no_first_admin_yet", error=explain_outage(error), retry_in_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 30.0)
            continue
        if key is not None:
            announce(_BANNER.format(key=key, prefix=prefix_of(key)))
        return


async def make_first_admin(database: Database, admin_api_key: SecretStr | None) -> str | None:
    """Make a client `admin` with one key, if there are no clients at all; of several processes exactly one does.

    Returns the key's text, which cannot be had again; None when there are clients, or when the key is `admin_api_key`,
    which is known already. Raises StartupError as `check_admin_key`.
    """
    check_admin_key(admin_api_key)
    given = None if admin_api_key is None else as_new_key(admin_api_key.get_secret_value())
    async with database.connection() as connection:
        if await is_any_client_there(connection):
            return None
    async with database.transaction() as connection:
        await lock_access(connection)
        if await is_any_client_there(connection):
            return None
        admin = ClientBody(id=ADMIN_ID, display_name="Made on the first start", roles=["admin"], request_limit=None)
        await create_client(connection, _FIRST, admin)
        made = await create_key(connection, _FIRST, _key_of_admin(given), new=given)
    log.info("access.first_admin", client_id=ADMIN_ID, key=made.key.prefix)
    return made.text if given is None else None


def check_admin_key(admin_api_key: SecretStr | None) -> None:
    """Raise StartupError, which does not show it, unless ADMIN_API_KEY is unset or a live key."""
    if admin_api_key is None:
        return
    text = admin_api_key.get_secret_value()
    if not is_well_formed(text) or is_test_key(text):
        raise StartupError("ADMIN_API_KEY is no sf_live_... key; `sms-foundation keys generate` makes one")


def _key_of_admin(given: NewKey | None) -> KeyBody:
    name = "first start" if given is None else "ADMIN_API_KEY"
    return KeyBody(client_id=ADMIN_ID, name=name, is_test=False, scopes=None, networks=[], expires_at=None)

"""`sms-foundation signing-keys`."""

import sys
from datetime import timedelta

import typer

from sms_foundation.auth.audit.log import Action, record
from sms_foundation.auth.principal import COMMAND_LINE
from sms_foundation.auth.tokens.private_keys import generate_signing_key, open_private_keys
from sms_foundation.auth.tokens.public_keys import PublicKey, erase_retired, list_public_keys, register
from sms_foundation.cli.database import in_transaction
from sms_foundation.cli.options import moment
from sms_foundation.core.clock import utc_now
from sms_foundation.core.config import Settings, load_settings
from sms_foundation.core.db import Connection

commands = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Show and replace the keys that sign our tokens (`keys` is about API keys).\n\nPrivate keys come from "
    "SIGNING_KEY or SIGNING_KEY_PATH; on a developer's machine one is made in SMS_DATA_DIR. What a replaced key signed "
    "is accepted for SIGNING_KEY_GRACE_H hours more, then never again.\n\nFor example, the first key of a deployment, "
    "and any later one:\n\n  sms-foundation signing-keys rotate > signing-key.pem",
)


@commands.command(name="list")
def list_keys() -> None:
    """List the keys that have signed: name, since when, and whether what they signed is accepted."""

    async def fetch(connection: Connection) -> list[PublicKey]:
        await erase_retired(connection, utc_now())
        return list(await list_public_keys(connection))

    for row in (rows := in_transaction(fetch)):
        print(f"{row.kid}  since {moment(row.created_at)}  {_condition(row)}")
    if not rows:
        print("no key has signed yet: the first token that is made registers one")


@commands.command()
def rotate() -> None:
    """Make a new key; the others retire. Running instances sign with it within a minute.

    Where keys are files that can be written here (SIGNING_KEY_PATH is a folder, or the key was made in SMS_DATA_DIR),
    the new one is put there. Otherwise it is printed, once: put it into your secret store and deploy.
    """
    settings = load_settings()
    source = open_private_keys(settings)
    key = generate_signing_key()
    file = None if source is None else source.add(key)
    if file is None:
        print(key.pem, end="")
        print(_what_to_do(settings), file=sys.stderr)
        return

    async def retire_others(connection: Connection) -> None:
        await register(connection, key, now=utc_now(), grace=timedelta(hours=settings.signing_key_grace_h))
        await record(connection, COMMAND_LINE, Action.SIGNING_KEY_ROTATE, target_kind="signing_key", target=key.kid)

    try:
        in_transaction(retire_others)
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    print(f"made {key.kid} in {file}")
    print(f"what older keys signed is accepted for {settings.signing_key_grace_h:g} hours more")


def _condition(key: PublicKey) -> str:
    if key.jwk is None:
        return "retired"
    return "signs" if key.retires_at is None else f"accepted until {moment(key.retires_at)}"


def _what_to_do(settings: Settings) -> str:
    if settings.signing_key_path is not None:
        where = f"put it first in {settings.signing_key_path}, the old one below it"
    elif settings.signing_key is not None:
        where = "put it first in SIGNING_KEY, the old one below it, and deploy"
    else:
        where = "put it into SIGNING_KEY (or a file that SIGNING_KEY_PATH names), and deploy"
    return (
        f"{where}. The first instance that has it makes the others retire: what they signed is accepted for "
        f"{settings.signing_key_grace_h:g} hours more."
    )

"""`sms-foundation privacy`."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import typer

from sms_foundation.cli.database import ask_database, open_database
from sms_foundation.core.clock import monotonic
from sms_foundation.core.config import Settings, load_settings
from sms_foundation.core.db import Database, DatabaseUrl, explain_outage, is_outage
from sms_foundation.core.errors import StartupError
from sms_foundation.core.logging import configure_logging
from sms_foundation.messaging.personal_data import StoredMessage
from sms_foundation.privacy.erasing import Erased, Erasing, Listener, Survey, survey
from sms_foundation.privacy.export import Export
from sms_foundation.privacy.subject import Subject, find_subject
from sms_foundation.providers.configured import are_simulated
from sms_foundation.worker import open_core

commands = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Read out, or erase, everything stored about one person's number.\n\nWhat that is, table by table, what stays "
    "and why: docs/privacy.md.",
)
Phone = Annotated[
    str, typer.Argument(help="The person's number, in any spelling: +14155550123.", metavar="PHONE", show_default=False)
]
Reference = Annotated[
    str | None,
    typer.Option(help="What the request is filed under, for the audit log; no name or number.", show_default=False),
]
_PROGRESS_EVERY_S: Final = 1.0


@commands.command()
def export(
    phone: Phone,
    output: Annotated[
        Path | None,
        typer.Option(help="New file to write, readable by you alone.  [default: standard output]", show_default=False),
    ] = None,
    reference: Reference = None,
) -> None:
    """Write everything stored about a number as one JSON object.

    Nobody is asked, and the audit log says that it was done. Example:

        sms-foundation privacy export +14155550123 --output export.json --reference REQUEST-17
    """
    settings = _quiet_settings()
    subject = find_subject(phone, settings.default_region)

    with _opened(output) as file:

        async def run(database: Database) -> None:
            await Export(database, subject, file.write, _Progress("read out").messages).run(reference=reference)

        ask_database(settings, run)
    if output is not None:
        print(f"{_name(subject)}: written to {output}", file=sys.stderr)


@commands.command()
def erase(
    phone: Phone,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    reference: Reference = None,
) -> None:
    """Erase everything stored about a number, for good: show what there is, ask, then do it.

    \b
    canceled  messages that are not sent yet; calls to providers that are under way are waited for
    erased    also what comes while this runs: numbers, texts, media, raw payloads, labels
              and errors of all messages; language, tenant, workflow
    stays     that there was a message, when, in which state, its segments, its price, and the provider's id for it:
              so a late receipt or a repeated webhook brings nothing back
    kept      opt-outs and rules that deny the number: they protect the person

    Run it where the service runs, with its settings: providers that can are asked to forget texts and media as well,
    and only a provider that is configured can be. Each message that its provider will not forget, or cannot be asked
    about from here, is a line on standard output: our id, provider, its id, why. Keep them. Running it again is safe,
    and finishes what was interrupted. Example:

        sms-foundation privacy erase +14155550123 --reference REQUEST-17
    """
    settings = _quiet_settings()
    subject = find_subject(phone, settings.default_region)
    with open_database(settings) as url:
        asyncio.run(_erase(settings, url, subject, reference=reference, is_sure=yes))


async def _erase(
    settings: Settings, url: DatabaseUrl, subject: Subject, *, reference: str | None, is_sure: bool
) -> None:
    async with open_core(settings, url) as core:
        try:
            found = await survey(core.database, subject, _Progress("counted").messages)
            if found.is_nothing:
                _say(f"{_name(subject)}: nothing is stored that could be erased{_what_stays(found)}")
                return
            _say(_describe(subject, found))
            if not is_sure and not _is_confirmed():
                raise StartupError("nothing was erased")
            progress = _Progress("erased")
            listener = Listener(progress.messages, progress.calls, _tell_not_forgotten)
            simulated = [config.name for config in core.configs] if are_simulated(settings) else []
            erasing = Erasing(core.database, core.reconciliation, subject, listener, simulated=simulated)
            erased = await erasing.run(reference=reference)
            _say(_sum_up(subject, erased))
            if not (await survey(core.database, subject, _Progress("counted").messages)).is_nothing:
                _say("more has come since; run it again to erase it as well")
        except Exception as error:
            if is_outage(error):
                raise StartupError(
                    f"the database at {url.safe_name}: {explain_outage(error)}; run it again to go on"
                ) from None
            raise


class _Progress:
    """Tells on standard error how far something has come, once a second at most."""

    def __init__(self, done: str) -> None:
        self._done = done
        self._told_at = monotonic()

    def messages(self, done: int, total: int) -> None:
        self._tell(f"  {done} of {total} messages {self._done}")

    def calls(self, count: int) -> None:
        self._tell(f"  waiting for {count} messages that are being sent at this moment")

    def _tell(self, line: str) -> None:
        if monotonic() - self._told_at >= _PROGRESS_EVERY_S:
            self._told_at = monotonic()
            _say(line)


@contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO]:
    """Yield where to write: a new file of mode 600, deleted again when it does not get whole; or standard output."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise StartupError(f"{path} exists already") from None
    except OSError as error:
        raise StartupError(f"cannot write {path}: {error.strerror}") from None
    try:
        with os.fdopen(number, "wb") as file:
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _quiet_settings() -> Settings:
    """Return the settings, once nothing but errors is logged: what is to be told is told in words."""
    settings = load_settings()
    configure_logging(level="CRITICAL", log_format=settings.log_format)
    return settings


def _describe(subject: Subject, found: Survey) -> str:
    counts = found.counts
    rows = [
        ("conversations", found.conversations, ""),
        ("messages", counts.messages, f"  ({counts.unsent} not sent yet: canceled)" if counts.unsent else ""),
        ("status events", counts.events, ""),
        ("attempts to send", counts.attempts, ""),
        ("receipts of other messages", found.unmatched_receipts, ""),
        ("tenants", found.tenants, "  (those with another number stay)" if found.tenants else ""),
        ("rules that allow the number", found.permissions, ""),
        ("notes of rules that deny it", found.notes, ""),
        ("used of its limits", found.limits, ""),
    ]
    lines = [f"  {name:<28}{count:>10}{more}" for name, count, more in rows]
    return "\n".join([f"{_name(subject)}: to be erased", *lines, *_what_stays(found).splitlines()[1:]])


def _what_stays(found: Survey) -> str:
    kept = [("opt-outs", found.opt_outs), ("rules that deny the number", found.denials)]
    lines = [f"  {name:<28}{count:>10}" for name, count in kept if count]
    return "".join(f"\n{line}" for line in ["kept, to protect the person", *lines]) if lines else ""


def _sum_up(subject: Subject, erased: Erased) -> str:
    lines = [f"{_name(subject)}: {erased.messages} messages erased, {erased.canceled} of them canceled"]
    if erased.asked_later:
        lines.append(f"  {erased.asked_later} are on their way or could not be asked about; the service goes on asking")
    if erased.not_forgotten_by_provider:
        lines.append(f"  {erased.not_forgotten_by_provider} stay, or may stay, at their provider: see standard output")
    return "\n".join(lines)


def _tell_not_forgotten(message: StoredMessage, reason: str) -> None:
    # At once: the message is erased next, and nothing here could name it afterwards.
    print(f"{message.id}\t{message.provider}\t{message.provider_message_id or '-'}\t{reason}", flush=True)


def _name(subject: Subject) -> str:
    """Return the whole number for whoever sits before it, and what logs may hold for what is no terminal."""
    return subject.number if sys.stderr.isatty() else subject.masked


def _is_confirmed() -> bool:
    print("Erase this for good? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

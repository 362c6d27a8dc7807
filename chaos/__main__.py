"""`python -m chaos`: break everything by plan while it is used, then count. Exit status 0: every count is zero."""

import argparse
import asyncio
import contextlib
import os
import platform
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from chaos.count import count_all
from chaos.errors import ChaosError
from chaos.plan import SHORTEST_S, make_plan
from chaos.play import play, until_told
from chaos.record import Evidence
from chaos.report import Run, tell

_HELP: Final = """\
Break a running service on purpose and count what it lost, doubled or swapped.

Starts two services, a worker, the simulator and a PostgreSQL with fsync on, each as processes of its own. Phones text,
clients send and ask, receipts come back; meanwhile, by a plan that the seed decides, processes are killed, PostgreSQL
is stopped, restarted, frozen and cut off, providers fail, hang, answer too late or drop connections, receipts come
late, doubled, reordered or not at all, and the Collections Monitor is down, slow or talks nonsense. Then all is made
well again, and once the service has settled, what the simulator knows is held against what the API shows.
"""
_EXAMPLES: Final = """\
examples:
  python -m chaos                        5 minutes, a seed of its own
  python -m chaos --seconds 90 --seed 7  the same plan every time (`make chaos` takes CHAOS_SECONDS and CHAOS_SEED)
  python -m chaos --seed 7 --plan        show what would break when, and do nothing

exit status: 0 every count is zero, 1 one is not, 2 the run could not be made. A failed run leaves its logs in a folder
that it names.
"""


def main() -> int:
    """Run, report, and return the exit status."""
    arguments = _parser().parse_args()
    try:
        plan = make_plan(arguments.seed, arguments.seconds)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments.plan:
        print(*plan, sep="\n")
        return 0
    print(f"seed {arguments.seed}, {arguments.seconds:g} s of load, {len(plan)} faults", file=sys.stderr, flush=True)
    run = Run(arguments.seed, arguments.seconds, _machine(), dict(arguments.settings), reconciles=arguments.reconcile)
    folder = Path(tempfile.mkdtemp(prefix="sms-chaos-", dir=arguments.folder))
    evidence = Evidence()
    is_clean = False
    try:
        with _one_error():
            asyncio.run(until_told(play(run, evidence, folder)))
        counts = count_all(evidence)
        is_clean = all(count.is_zero for count in counts)
    except ChaosError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, asyncio.CancelledError):
        is_clean = True  # nobody wants the logs of what they have ended themselves
        return 130
    finally:
        _tidy(folder, keeps_logs=not is_clean, keeps_all=arguments.keep)
    return tell(run, evidence, counts, arguments.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m chaos",
        description=_HELP,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=300.0,
        metavar="S",
        help=f"length of the load, {SHORTEST_S:.0f} at least; settling comes on top (default: 300)",
    )
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(1_000_000), metavar="N", help="decides the plan (default: random)"
    )
    parser.add_argument("--plan", action="store_true", help="print what would break when, and end")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write counts, ids, figures and faults there")
    parser.add_argument(
        "--folder",
        type=Path,
        default=_disk(),
        metavar="DIR",
        help="where database and logs go, on a real disk (default: %(default)s)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=_setting,
        dest="settings",
        metavar="NAME=VALUE",
        help="a setting of services and worker; may be repeated. UNKNOWN_SETTLE_S=1 sends texts twice: see it fail",
    )
    parser.add_argument(
        "--reconcile",
        action="store_true",
        help="afterwards wait two minutes, run `sms-foundation reconcile`, and count texts nobody acknowledged as well",
    )
    parser.add_argument("--keep", action="store_true", help="leave database and logs, however it ends")
    return parser


def _setting(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError("write it as NAME=VALUE")
    return name, value


@contextlib.contextmanager
def _one_error() -> Iterator[None]:
    """Raise the ChaosError that tasks beside each other raised as itself."""
    try:
        yield
    except BaseExceptionGroup as group:
        expected, unexpected = group.split(ChaosError)
        if unexpected is not None or expected is None:
            raise
        leaf: BaseException = expected
        while isinstance(leaf, BaseExceptionGroup):
            leaf = leaf.exceptions[0]
        raise leaf from None


def _tidy(folder: Path, *, keeps_logs: bool, keeps_all: bool) -> None:
    if keeps_all or keeps_logs:
        if not keeps_all:
            shutil.rmtree(folder / "postgres" / "data", ignore_errors=True)
        print(f"logs: {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _disk() -> Path:
    """Temporary files may live in memory; those under /var/tmp do not."""
    return Path("/var/tmp") if Path("/var/tmp").is_dir() else Path(tempfile.gettempdir())  # noqa: S108


def _machine() -> str:
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())

"""A process that uses a LocalPostgres, for tests that start several, kill them, or run them as somebody else.

Usage: local_postgres_child.py ROOT BINARIES ("" for whatever is found) [hold | exit | fork] [UID]

Prints one line of JSON, `{"url": ...}` or `{"error": ...}`, once it has started; `hold` then waits for standard input
to close and stops, `exit` ends without a stop of its own, `fork` lets a forked child end first and says in a second
line whether the server still answers. With a UID it becomes that user first, which only root can.
"""

import json
import os
import socket
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from sms_foundation.core.local_postgres import LocalPostgres, LocalPostgresError


def main(root: str, binaries: str, how: str, uid: str = "") -> None:
    if uid:  # only now: the interpreter itself may lie where that user cannot read
        os.setgroups([])
        os.setgid(int(uid))
        os.setuid(int(uid))
    postgres = LocalPostgres(Path(root), fast=True, binaries=Path(binaries) if binaries else None)
    try:
        postgres.start()
    except LocalPostgresError as error:
        report(error=str(error))
        return
    report(url=postgres.url)
    if how == "hold":
        sys.stdin.read()
        postgres.stop()
    elif how == "fork":
        if child := os.fork():
            os.waitpid(child, 0)
            report(answers=answers(postgres.url))
        else:
            postgres.stop()
            sys.exit()  # runs what atexit holds, unlike os._exit


def report(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def answers(url: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(f"{parse_qs(urlsplit(url).query)['host'][0]}/.s.PGSQL.5432") == 0


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Runs several command lines one after the other in one process, since most of a start's second is imports.

Standard input holds a JSON list of [variables of the environment, arguments]; standard output gets a list of
[exit status, stdout, stderr].
"""

import contextlib
import io
import json
import os
import sys

from sms_foundation.cli import main

results = []
before = dict(os.environ)
for variables, arguments in json.load(sys.stdin):
    os.environ.clear()
    os.environ.update(before | variables)
    sys.argv = ["sms-foundation", *arguments]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            status = end.code
    results.append([status, out.getvalue(), err.getvalue()])
json.dump(results, sys.stdout)

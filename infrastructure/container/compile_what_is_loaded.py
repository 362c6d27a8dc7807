"""Write bytecode for what `serve` and `worker` import, and prove by doing so that they can be imported.

    python compile_what_is_loaded.py packages            of this virtual environment
    python compile_what_is_loaded.py standard-library    of the interpreter it is made with

A read-only container cannot keep bytecode, and without it a start takes three seconds longer. All bytecode of all
packages would be 35 MB; what is loaded is a third of that. It says nothing of file times, so that two builds agree.
"""

import importlib
import py_compile
import sys
import sysconfig
from pathlib import Path

_ENTRANCES = (
    "sms_foundation.cli",
    "sms_foundation.cli.serve",
    "sms_foundation.cli.worker",
    # Loaded by name: by a setting, or at the first request or connection.
    "sms_foundation.core.tracing.open_telemetry",
    "redis.asyncio",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.httptools_impl",
)


def main() -> None:
    sys.dont_write_bytecode = True
    for name in _ENTRANCES:
        importlib.import_module(name)
    folder = {"packages": sys.prefix, "standard-library": sysconfig.get_path("stdlib")}[sys.argv[1]]
    for path in sorted(_sources(Path(folder))):
        py_compile.compile(str(path), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)


def _sources(folder: Path) -> set[Path]:
    """Return the files of loaded modules below `folder`."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    paths = (Path(file) for file in files if file)
    return {path for path in paths if path.suffix == ".py" and path.is_relative_to(folder)}


if __name__ == "__main__":
    main()

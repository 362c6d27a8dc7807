#!/bin/sh
# Take out of a virtual environment what no process ever reads: slim.sh FOLDER. Halves it.
set -eu
site=$(echo "$1"/lib/python3.*/site-packages)
test -d "$site/phonenumbers"

# Debug symbols: two thirds of the compiled modules' bytes.
find "$site" -type f -name '*.so*' -exec strip --strip-unneeded {} +

# Sources of what is compiled already, and types for editors.
find "$site" -type f \( -name '*.c' -o -name '*.cpp' -o -name '*.h' -o -name '*.hpp' -o -name '*.pyx' -o -name '*.pxd' \
    -o -name '*.pxi' -o -name '*.pyi' \) -delete

# Place names, carriers and time zones of numbers: 20 MB that only modules we do not import would read.
rm -r "$site/phonenumbers/geodata" "$site/phonenumbers/carrierdata" "$site/phonenumbers/tzdata"

# The grammars of 500 languages, for colouring source code on a terminal.
find "$site/pygments/lexers" -type f ! -name '__init__.py' ! -name '_mapping.py' ! -name 'python.py' -delete

# Databases we do not speak to, web sockets we do not answer, and protocols of Google's that traces do not use.
rm -rf "$site/sqlalchemy/dialects/mssql" "$site/sqlalchemy/dialects/mysql" "$site/sqlalchemy/dialects/oracle" \
    "$site/websockets" "$site/google/api" "$site/google/cloud" "$site/google/gapic" "$site/google/logging" \
    "$site/google/longrunning"

# Other projects' tests.
rm -rf "$site/greenlet/tests" "$site/sqlalchemy/testing" "$site/alembic/testing" "$site/mako/testing"

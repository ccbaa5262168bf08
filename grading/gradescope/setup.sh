#!/bin/sh
# Gradescope runs this once, when it builds the image: it looks for a Python that will do, or else installs one, and adds
# a user for the submissions, who can read neither the tests nor the results.
set -eu
root=${AUTOGRADER_ROOT:-/autograder}

chosen() { # the first Python of at least 3.11
    for python in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$python"
            return
        fi
    done
}

python=$(chosen)
if [ -z "$python" ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update
    apt-get install -y python3.11 || apt-get install -y python3
    python=$(chosen)
fi
if [ -z "$python" ]; then
    echo "error: no Python of version 3.11 or later can be had here" >&2
    exit 1
fi
echo "$python" > "$root/source/interpreter"
chmod 700 "$root/source"
id student >/dev/null 2>&1 || useradd --no-create-home student || echo "no user of their own for submissions" >&2

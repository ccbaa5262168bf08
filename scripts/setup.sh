#!/bin/sh
# `make` runs this in the folder of the checkout. It sets .venv up anew with the packages that requirements.txt pins, and
# with the Python that the variable `python` names, or else with the first one that is suitable.
set -eu
unset PYTHONHOME PYTHONPATH # -E does not reach what venv and pip start themselves

lacks() { # prints what is wrong with a Python; nothing if it is suitable
    "$1" -E -c '
import sys

if sys.version_info < (3, 11):
    print("it is %d.%d" % sys.version_info[:2])
    sys.exit()
for module in ("venv", "ensurepip", "ssl"):
    try:
        __import__(module)
    except ImportError:
        print("it has no module " + module)
        break
' 2>/dev/null || echo "it cannot be run"
}

chosen=
reasons=
if [ -n "${python-}" ]; then set -- "$python"; else set -- python3 python3.13 python3.12 python3.11 python3.14; fi
for candidate; do
    reason=$(lacks "$candidate")
    if [ -z "$reason" ]; then
        chosen=$candidate
        break
    fi
    if [ -n "${python-}" ] || command -v "$candidate" >/dev/null; then
        reasons="$reasons${reasons:+; }$candidate: $reason"
    fi
done
if [ -z "$chosen" ]; then
    echo "error: Daadkvs needs Python 3.11 or later, with its modules venv, ensurepip and ssl (${reasons:-no python3})" >&2
    exit 2
fi

echo "setting up .venv …" >&2
if [ -L .venv ]; then rm .venv; fi # what a link leads to must not be cleared
"$chosen" -I -m venv --clear .venv >&2
PIP_USER=0 .venv/bin/python -I -m pip install --quiet --disable-pip-version-check --require-hashes \
    -r requirements.txt >&2
if ! .venv/bin/python -I -c 'import msgpack, rpyc, setproctitle' 2>/dev/null; then
    echo "error: pip has not put the packages into .venv; see its settings, and the variables PIP_…" >&2
    exit 2
fi
cp requirements.txt .venv/ready

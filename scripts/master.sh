#!/bin/sh
# `make` copies this to ./master, which runs master.py from any folder, with the .venv beside it.
self=$0
if [ -L "$self" ]; then self=$(readlink -f -- "$self"); fi
case $self in
*/*) here=${self%/*} ;;
*) here=. ;;
esac
if [ -d /dev/stdin ]; then # Python would end with a message of ten lines
    echo "error: standard input: Is a directory" >&2
    exit 2
fi
python=$here/.venv/bin/python
if [ ! -x "$python" ]; then
    echo "error: $here/.venv is missing, or the Python that it was made with is gone; \`make\` sets it up anew" >&2
    exit 2
fi
if [ "$here/requirements.txt" -nt "$here/.venv/ready" ] && ! cmp -s "$here/requirements.txt" "$here/.venv/ready"; then
    echo "error: $here/requirements.txt has changed; \`make\` sets up .venv anew" >&2
    exit 2
fi
export DAADKVS_COMMAND="$0" # what --help shows
export MALLOC_ARENA_MAX="${MALLOC_ARENA_MAX:-1}" # threads of one process take turns, so they need no heap of their own
# -E keeps PYTHONPATH and the like from changing what is run. SIGINT is blocked until master.py can handle it, since a
# Ctrl-C while Python itself starts would show a traceback. (If env cannot block it, `make` has it ignored until then.)
exec env --block-signal=INT "$python" -E "$here/master.py" "$@"

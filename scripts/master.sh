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
# -E: variables such as PYTHONPATH do not change what is run. A Ctrl-C while Python is starting would show a traceback,
# so it is blocked until master.py unblocks it. (If env can't block signals, `make` has it ignored for that time.)
exec env --block-signal=INT "$python" -E "$here/master.py" "$@"

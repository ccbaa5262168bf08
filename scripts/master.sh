#!/bin/sh
# `make` copies this to ./master: master.py with the environment that stands beside it, from any folder.
self=$0
if [ -L "$self" ]; then self=$(readlink -f -- "$self"); fi
case $self in
*/*) here=${self%/*} ;;
*) here=. ;;
esac
if [ -d /dev/stdin ]; then  # Python itself would end with a message of ten lines
    echo "error: standard input: Is a directory" >&2
    exit 2
fi
exec "$here/.venv/bin/python" "$here/master.py" "$@"

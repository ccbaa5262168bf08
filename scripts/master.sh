#!/bin/sh
# `make` copies this to ./master: master.py with the environment that stands beside it, from any folder.
self=$0
if [ -L "$self" ]; then self=$(readlink -f -- "$self"); fi
case $self in
*/*) here=${self%/*} ;;
*) here=. ;;
esac
exec "$here/.venv/bin/python" "$here/master.py" "$@"

#!/bin/sh
# Ends what broken runs of this checkout have left behind: see cleanup.py, which needs nothing but Python itself.
self=$0
if [ -L "$self" ]; then self=$(readlink -f -- "$self"); fi
case $self in
*/*) here=${self%/*} ;;
*) here=. ;;
esac
for python in python3 python3.13 python3.12 python3.11 python3.14 "$here/../.venv/bin/python"; do
    if "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        exec "$python" -I "$here/cleanup.py" "$@"
    fi
done
echo "error: this needs Python 3.11 or later, but none was found" >&2
exit 2

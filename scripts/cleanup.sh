#!/usr/bin/env bash
# Ends every Daadkvs process of this user that was started from this checkout, a hung master too, and removes
# their temporary files. Touches nothing else: no other checkout's runs, no data directories.
#
#   scripts/cleanup.sh             all runs
#   scripts/cleanup.sh --orphans   only runs whose master is gone
#
# A master is known by its command line: Python running this checkout's master.py. A run is known by its folder,
# /tmp/daadkvs-UID-HASH-…: HASH is of this checkout's path, the titles of the run's processes end with the folder's
# name, and its file `owner` names the master by process id and start time.
set -euo pipefail

usage() { # what stands at the top
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
}

case $* in
'') orphans_only=false ;;
--orphans) orphans_only=true ;;
--help)
    usage
    exit 0
    ;;
*)
    echo "error: unknown option: $*" >&2
    usage >&2
    exit 2
    ;;
esac

root=$(cd "$(dirname "$0")/.." && pwd -P)
stem=daadkvs-$(id -u)-$(printf %s "$root" | sha256sum | cut -c1-10)-

processes() { # pid and run folder of every process of these runs
    ps -ww -u "$(id -u)" -o pid=,args= |
        sed -nE "s|^ *([0-9]+) daadkvs [a-z]+( [0-9]+)? \((/.*/$stem[^/)]*)\)\$|\1 \3|p"
}

masters() { # those of this checkout, also where they have no run folder yet, or no more
    local process argument words
    for process in /proc/[0-9]*; do
        [ -O "$process" ] || continue
        words=()
        while IFS= read -r -d '' argument; do
            case $argument in -*) [ ${#words[@]} = 0 ] || continue ;; esac
            words+=("$argument")
            [ ${#words[@]} = 2 ] && break
        done 2>/dev/null <"$process/cmdline" || true
        case ${words[0]-} in python* | */python*) ;; *) continue ;; esac
        case ${words[1]-} in
        master.py | */master.py)
            if [ "$(cd "$process/cwd" 2>/dev/null && realpath -- "${words[1]}" 2>/dev/null)" = "$root/master.py" ]; then
                echo "${process#/proc/}"
            fi
            ;;
        esac
    done
}

start_time() { # of a process; nothing where there is none
    sed -E 's/.*\) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20
}

end_run() {
    local run=$1 word pid started master='' stores=''
    if [ -f "$run/owner" ]; then
        while read -r word pid started; do
            case $word in
            master) [ "$(start_time "$pid")" = "$started" ] && master=$pid ;;
            stores) stores=$pid${started:+ $started} ;;
            esac
        done <"$run/owner"
    fi
    if $orphans_only && [ ! -f "$run/owner" ] && [ -n "$(find "$run" -maxdepth 0 -mmin -1 2>/dev/null)" ]; then
        return # it is being begun
    fi
    if [ -n "$master" ]; then
        if $orphans_only; then return; fi
        kill -KILL "$master" 2>/dev/null || true
        echo "ended master $master"
    fi
    for pid in $(processes | awk -v run="$run" '$2 == run { print $1 }'); do
        kill -KILL "$pid" 2>/dev/null || true
        echo "ended process $pid"
    done
    if [ -n "$stores" ] && [[ ${stores##*/} == "$stem"* ]] && [ -O "$stores" ] && [ ! -L "$stores" ]; then
        rm -rf -- "$stores"
    fi
    if [ -d "$run" ] && [ -O "$run" ] && [ ! -L "$run" ]; then
        rm -rf -- "$run"
        echo "removed $run"
    fi
}

if ! $orphans_only; then
    for pid in $(masters); do
        kill -KILL "$pid" 2>/dev/null || continue
        echo "ended master $pid"
    done
fi

{
    processes | cut -d' ' -f2-
    for folder in /tmp "${TMPDIR:-/tmp}"; do
        for run in "$folder/$stem"*; do
            if [ -d "$run" ] && [[ $run != *-stores-* ]]; then echo "$run"; fi
        done
    done
} | sort -u | while read -r run; do end_run "$run"; done

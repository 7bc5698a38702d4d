# Sourced by ./install, ./quickstart and ./runtests: which Python makes their environments.
# shellcheck shell=bash

# `python` is what PYTHON names, otherwise the system's own: what a Debian ships is what people run this with,
# and another python3 on PATH comes second.
python=${PYTHON:-python3}
if [ -z "${PYTHON:-}" ] &&
    /usr/bin/python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=/usr/bin/python3
fi

# Say why `python` cannot make an environment, and end.
need_python() {
    local name=${0##*/} why=
    if ! command -v "$python" >/dev/null; then
        why="there is no $python (on Debian: apt install python3-venv)"
    elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        why="Python 3.11 or newer is needed, and $python is older (PYTHON=… names another)"
    elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        why="$python cannot make virtual environments (on Debian: apt install python3-venv)"
    fi
    [ -z "$why" ] || {
        echo "$name: $why" >&2
        exit 1
    }
}

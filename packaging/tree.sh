#!/bin/sh
# Make the tree that the packages carry, as it lies on a node: packaging/tree.sh TARGET FORMAT [MACHINE]
#
# MACHINE is x86_64 or aarch64.
# FORMAT (deb, rpm, native) decides where units and zsh's functions lie. `native` is for packaging/debian, which has put
# the code into TARGET already and needs no Python of ours.
set -eu
cd "$(dirname "$0")/.."

target=$1 format=$2 machine=${3:-}
PRIVATE=/usr/lib/mirror-agent
LIBRARY=$PRIVATE/lib/python3.14

case $format in
    deb) units=/lib/systemd/system zsh=/usr/share/zsh/vendor-completions ;;
    rpm) units=/usr/lib/systemd/system zsh=/usr/share/zsh/site-functions ;;
    native) units=/usr/lib/systemd/system zsh=/usr/share/zsh/vendor-completions ;;
esac

# place MODE DESTINATION FILE...: into a directory (with a "/" at the end), or under a name of its own.
place() {
    mode=$1 destination=$target$2
    shift 2
    mkdir -p "${destination%/*}"
    install -m "$mode" "$@" "$destination"
}

code() {
    runtime=$(packaging/runtime/build.sh "$machine")
    # One that runs here; bytecode is the same on all machines.
    native=$(packaging/runtime/build.sh)/bin/python3.14
    mkdir -p "$target$PRIVATE"
    cp -R "$runtime/bin" "$runtime/lib" "$runtime/licenses" "$target$PRIVATE/"
    cp -R agent "$target$LIBRARY/site-packages/agent"
    find "$target$LIBRARY/site-packages/agent" -name __pycache__ -prune -exec rm -r {} +
    PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 "$native" -s -m compileall -q \
        --invalidation-mode unchecked-hash -s "$target" -p / "$target$LIBRARY/site-packages/agent"
    place 755 /usr/bin/mirror-agent packaging/mirror-agent.sh
    place 644 $PRIVATE/licenses/mirror-agent/ LICENSE
}

around() {
    place 644 "$units/" systemd/*.service systemd/*.timer
    place 644 /usr/lib/systemd/catalog/ packaging/*.catalog
    place 640 /etc/mirror-agent.yaml packaging/mirror-agent.yaml
    place 644 /usr/share/mirror-agent/ agent/data/mirror-agent.schema.json packaging/metrics/*
    place 644 /usr/share/bash-completion/completions/mirror-agent packaging/completions/mirror-agent.bash
    place 644 "$zsh/_mirror-agent" packaging/completions/_mirror-agent
    manual packaging/man ''
    manual packaging/man/zh_CN /zh_CN
}

# manual DIRECTORY LANGUAGE: its pages, compressed without a date in them.
manual() {
    for page in "$1"/*.[158]; do
        directory=$target/usr/share/man$2/man${page##*.}
        mkdir -p "$directory"
        gzip -9n <"$page" >"$directory/${page##*/}.gz"
    done
}

umask 022
if [ "$format" = native ]; then
    place 755 /usr/bin/mirror-agent packaging/debian/launcher
else
    code
fi
around
# The same on every machine: who may read it, and when it was made.
find "$target" -type d -exec chmod 755 {} +
find "$target" -type f ! -path "$target/etc/mirror-agent.yaml" -exec chmod u=rwX,go=rX {} +

#!/bin/sh
# `make run`: the agent in the foreground on a root of its own, .sandbox/, with a sample to edit.
set -eu
cd "$(dirname "$0")/../.."

SANDBOX=.sandbox
SAMPLE=packaging/sandbox
CONFIG=$SANDBOX/etc/mirror-agent.yaml
DAEMON_JSON=$SANDBOX/etc/docker/daemon.json
STATUS=$SANDBOX/run/mirror-agent/status.json
FIRST_CYCLE_SECONDS=15

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    strong=$(printf '\033[1m') dim=$(printf '\033[2m') plain=$(printf '\033[0m')
else
    strong='' dim='' plain=''
fi

title() { printf '\n%s%s%s\n' "$strong" "$*" "$plain"; }

seed() {
    if [ -e $CONFIG ]; then
        printf 'Starting where you left off: %s/ is there already (make clean removes it).\n' $SANDBOX
        return
    fi
    printf 'Making a sandbox in %s/: a desired state, and a daemon.json with keys of somebody else.\n' $SANDBOX
    mkdir -p $SANDBOX/etc/docker $SANDBOX/etc/containerd
    cp $SAMPLE/daemon.json $DAEMON_JSON
    # Last, so that an interrupted start begins anew. Who may write it decides what a root process does: its owner.
    install -m 0640 $SAMPLE/mirror-agent.yaml $CONFIG
}

show() { sed "s/^/    $dim/;s/\$/$plain/" "$1"; }

# What the first cycle wrote, once it is through, while the agent goes on in the foreground.
tour() {
    waited=0
    while [ ! -e $STATUS ] && [ $waited -lt $((FIRST_CYCLE_SECONDS * 5)) ]; do
        sleep 0.2
        waited=$((waited + 1))
    done
    sleep 0.2
    title "What it keeps converged"
    (cd $SANDBOX && find etc/containerd etc/docker -type f | sort | sed 's/^/    /')
    hosts=$SANDBOX/etc/containerd/certs.d/docker.io/hosts.toml
    if [ -e $hosts ]; then
        title "$hosts: new"
        show $hosts
    fi
    title "$DAEMON_JSON: what was there is as it was, what you desire was added"
    show $DAEMON_JSON
    title "Now edit $CONFIG in another terminal"
    printf '    Add a mirror, save, and read below what was done and why. Then:\n'
    printf '    - write "mirror:" for "mirrors:": nothing changes, and it says what is wrong and where\n'
    printf '    - damage a managed file, or delete it: it is put back\n'
    printf '    - .venv/bin/python -m agent --root %s status\n' $SANDBOX
    printf '    Ctrl-C ends it; make run starts it again.\n\n'
}

seed
rm -f $STATUS
printf 'Running in the foreground: mirror-agent --root %s run\n\n' $SANDBOX
(tour &) # an orphan: the agent that takes our place does not know it
exec .venv/bin/python -m agent --root $SANDBOX run

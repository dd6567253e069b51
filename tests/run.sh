#!/bin/sh
# All tests in one pytest run; node tests are left out, in one clear line, where nodes cannot be booted.
#
#   tests/run.sh               everything
#   tests/run.sh PATH...       only these
#
# MIRROR_AGENT_NODE_TESTS=required: a node test that cannot run is a failure.
# MIRROR_AGENT_NODE_TESTS=skip: no node test is run.
set -eu
cd "$(dirname "$0")/.."

wanted=${MIRROR_AGENT_NODE_TESTS:-auto}
node_tests=tests/node
sudo=
KEPT=MIRROR_AGENT_NODE_TESTS,MIRROR_AGENT_NODE_MIRROR,MIRROR_AGENT_NODE_CACHE

leave_out_node_tests() {
    printf 'node tests: not run: %s\n' "$1"
    [ "$wanted" != required ] || exit 1
    node_tests=
}

prepare_nodes() {
    if why=$(packaging/setup.sh nodes); then
        [ "$(id -u)" = 0 ] || sudo="sudo -n --preserve-env=$KEPT env PYTHONDONTWRITEBYTECODE=1"
    else
        leave_out_node_tests "${why:-their tools could not be installed}"
    fi
}

if [ "$wanted" = skip ]; then
    leave_out_node_tests "MIRROR_AGENT_NODE_TESTS=skip"
else
    prepare_nodes
fi

if [ $# -gt 0 ]; then
    [ "$*" != tests/node ] || [ -n "$node_tests" ] || exit 1
else
    for directory in tests/unit tests/cases tests/faults $node_tests; do
        [ ! -d "$directory" ] || set -- "$@" "$directory"
    done
fi

# Two workers: unit and case tests are spread over both, then each takes one suite's nodes.
# shellcheck disable=SC2086 # empty or a command
exec $sudo .venv/bin/python -m pytest -p no:cacheprovider -n 2 --dist loadgroup --no-loadscope-reorder "$@"

#!/bin/sh
# All tests in one pytest run; node tests are left out, in one clear line, where nodes cannot be booted.
#
#   tests/run.sh               everything
#   tests/run.sh PATH...       only these
#
# MIRROR_AGENT_NODE_TESTS=required: a node test that cannot run is a failure.
# MIRROR_AGENT_NODE_TESTS=skip: no node test is run.
# MIRROR_AGENT_NODE_INSTALL=package: the packages are made, judged and installed on the nodes (make packaged).
set -eu
cd "$(dirname "$0")/.."

wanted=${MIRROR_AGENT_NODE_TESTS:-auto}
node_tests=tests/node
package_tests=
sudo=
KEPT=MIRROR_AGENT_NODE_TESTS,MIRROR_AGENT_NODE_MIRROR,MIRROR_AGENT_NODE_CACHE,MIRROR_AGENT_NODE_INSTALL
KEPT=$KEPT,MIRROR_AGENT_ARCHITECTURES,MIRROR_AGENT_RUNTIME_CACHE,MIRROR_AGENT_SOURCES,MIRROR_AGENT_SOAK

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

# The packages come first, because they take both cores.
prepare_packages() {
    # shellcheck disable=SC2086 # a list of words
    packaging/setup.sh package ${MIRROR_AGENT_ARCHITECTURES:-}
    $sudo .venv/bin/python -m tests.packages
    package_tests=tests/package
}

if [ "$wanted" = skip ]; then
    leave_out_node_tests "MIRROR_AGENT_NODE_TESTS=skip"
else
    prepare_nodes
    [ "${MIRROR_AGENT_NODE_INSTALL:-checkout}" != package ] || prepare_packages
fi

if [ $# -gt 0 ]; then
    case "$*" in *tests/node*) [ -n "$node_tests" ] || exit 1 ;; esac
else
    for directory in tests/unit tests/cases tests/faults $package_tests $node_tests; do
        [ ! -d "$directory" ] || set -- "$@" "$directory"
    done
fi

# Two workers: unit and case tests are spread over both, then each takes one suite's nodes.
# shellcheck disable=SC2086 # empty or a command
exec $sudo .venv/bin/python -m pytest -p no:cacheprovider -n 2 --dist loadgroup --no-loadscope-reorder "$@"

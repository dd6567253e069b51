#!/bin/sh
# Install what this checkout needs, saying so first. What is there already is left alone and nothing is asked.
#
#   packaging/setup.sh python    .venv with the exact packages of requirements-dev.lock
#   packaging/setup.sh nodes     what boots test nodes: mmdebstrap, systemd-nspawn
#   packaging/setup.sh package [amd64|arm64]...    what builds the packages, and lintian and rpmlint to judge them
#   packaging/setup.sh native    what packaging/debian builds with, on Debian 13 or later
#
# Exit 3 from `nodes`, `package` and `native`: this machine cannot do it; the last line says why.
set -eu
cd "$(dirname "$0")/.."

LOCK=requirements-dev.lock
VENV=.venv
STAMP=$VENV/.lock-digest

say() { printf 'setup: %s\n' "$*"; }
die() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "this needs root or sudo: $*"
    fi
}

# quietly COMMAND...: its output is shown only if it fails.
quietly() {
    if output=$("$@" </dev/null 2>&1); then
        return 0
    fi
    printf '%s\n' "$output" >&2
    die "this failed: $*"
}

# install_packages REASON PACKAGE...
install_packages() {
    reason=$1
    shift
    say "installing $* ($reason)"
    if have apt-get; then
        quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
    elif have dnf; then
        quietly as_root dnf install -y -q "$@"
    else
        die "neither apt-get nor dnf is here; install these yourself, then run this again: $*"
    fi
}

refresh_package_lists() {
    have apt-get || return 0
    say "refreshing apt's package lists"
    quietly as_root apt-get update -q
}

# --- Python ----------------------------------------------------------------------------------------------------------

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if have "$candidate" && is_new_enough "$candidate"; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    return 1
}

can_make_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

has_headers() {
    "$1" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' 2>/dev/null
}

# The packages of an interpreter that is not there yet: the default one where it is new enough (Debian 12 and later,
# Ubuntu 24.04), else a versioned one (Ubuntu 22.04 has python3.11 in universe; RHEL 9 has python3.11).
packaged_python() {
    if ! have apt-get; then
        printf 'python3.11\n'
        return 0
    fi
    default=$(apt-cache policy python3 | sed -n 's/^ *Candidate: //p')
    if [ -n "$default" ] && dpkg --compare-versions "$default" ge 3.11; then
        printf 'python3\n'
        return 0
    fi
    for name in python3.13 python3.12 python3.11; do
        if apt-cache show "$name" >/dev/null 2>&1; then
            printf '%s\n' "$name"
            return 0
        fi
    done
    die "no Python 3.11 or later among apt's packages; install one and name it: make PYTHON=/path/to/python3"
}

# The package that an interpreter on the disk belongs to: python3 for /usr/bin/python3, else its versioned name.
package_of() {
    if [ "$1" = python3 ]; then
        printf 'python3\n'
    else
        "$1" -c 'import sys; print("python%d.%d" % sys.version_info[:2])'
    fi
}

compiler_packages() {
    if have apt-get; then
        have cc || have gcc || printf 'gcc libc6-dev '
        have pkg-config || printf 'pkg-config '
        { have pkg-config && pkg-config --exists libsystemd; } || printf 'libsystemd-dev '
    else
        have cc || have gcc || printf 'gcc '
        have pkg-config || printf 'pkgconf-pkg-config '
        { have pkg-config && pkg-config --exists libsystemd; } || printf 'systemd-devel '
    fi
}

python_packages() {
    headers=-dev venv=-venv
    have apt-get || { headers=-devel && venv=; }
    if python=$(find_python); then
        name=$(package_of "$python")
        can_make_venv "$python" || printf '%s ' "${venv:+$name$venv}"
        has_headers "$python" || printf '%s ' "$name$headers"
    else
        name=$(packaged_python)
        printf '%s ' "$name" ${venv:+"$name$venv"} "$name$headers"
    fi
}

needs_packages() {
    [ -n "$(compiler_packages)" ] && return 0
    python=$(find_python) || return 0
    ! can_make_venv "$python" || ! has_headers "$python"
}

venv_works() { [ -x $VENV/bin/python ] && is_new_enough $VENV/bin/python && $VENV/bin/python -m pip --version >/dev/null 2>&1; }

lock_digest() { sha256sum $LOCK | cut -d ' ' -f 1; }

setup_python() {
    [ -x $VENV/bin/python ] && [ "$(cat $STAMP 2>/dev/null)" = "$(lock_digest)" ] && return 0
    if needs_packages; then
        refresh_package_lists
        # shellcheck disable=SC2046 # a list of words
        install_packages "Python 3.11 or later, and a compiler for systemd-python" $(compiler_packages) $(python_packages)
    fi
    python=$(find_python) || die "no Python 3.11 or later is here"
    if ! venv_works; then
        say "making $VENV with $("$python" --version)"
        rm -rf $VENV
        "$python" -m venv $VENV
    fi
    say "installing the packages of $LOCK into $VENV, each checked against its hash"
    $VENV/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $LOCK
    lock_digest >$STAMP
    say "done"
}

# --- nodes -----------------------------------------------------------------------------------------------------------

cannot() {
    printf '%s\n' "$*"
    exit 3
}

distribution() { sed -n 's/^ID=//p' /etc/os-release 2>/dev/null | tr -d '"'; }

# Commands that need root run as root or by a sudo that does not ask.
may_be_root() { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }

may_make_namespaces() { as_root unshare --mount --pid --net --ipc --uts --fork true 2>/dev/null; }

node_packages() {
    have mmdebstrap || printf 'mmdebstrap '
    have systemd-nspawn || printf 'systemd-container '
    have mount || printf 'mount '
    have ip || printf 'iproute2 '
    [ "$(distribution)" = debian ] || [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || printf 'debian-archive-keyring '
}

setup_nodes() {
    have apt-get || cannot "test nodes are built with mmdebstrap, on Debian or Ubuntu"
    may_be_root || cannot "booting nodes needs root: run it as root or with sudo"
    [ "$(distribution)" = debian ] || [ -n "${MIRROR_AGENT_NODE_MIRROR:-}" ] ||
        cannot "nodes are Debian: name a Debian mirror in MIRROR_AGENT_NODE_MIRROR"
    may_make_namespaces || cannot "this machine may not make namespaces (an unprivileged container?)"
    missing=$(node_packages)
    [ -n "$missing" ] || return 0
    refresh_package_lists
    # shellcheck disable=SC2086 # a list of words
    install_packages "to build and boot test nodes" $missing
}

# --- packages --------------------------------------------------------------------------------------------------------

# command:package, where the two differ. Of perl, OpenSSL's configuration needs more than the part that is always there.
BUILDERS='curl dpkg-deb:dpkg flock:util-linux gzip lintian make rpmbuild:rpm rpmlint strip:binutils xz:xz-utils'
# What the packages for arm64 need besides: qemu starts their interpreter in a test.
CROSS_BUILDERS='aarch64-linux-gnu-strip:binutils-aarch64-linux-gnu qemu-aarch64-static:qemu-user-static'

build_packages() {
    case " $* " in *' arm64 '*) BUILDERS="$BUILDERS $CROSS_BUILDERS" ;; esac
    for builder in $BUILDERS; do
        have "${builder%:*}" || printf '%s ' "${builder#*:}"
    done
    perl -MIPC::Cmd -MPod::Usage -e 1 2>/dev/null || printf 'perl '
    [ -e /etc/ssl/certs/ca-certificates.crt ] || printf 'ca-certificates '
}

setup_package() {
    have apt-get || cannot "packages are built on Debian or Ubuntu"
    [ "$(uname -m)" = x86_64 ] || cannot "packages are built on x86-64"
    missing=$(build_packages "$@")
    [ -n "$missing" ] || return 0
    refresh_package_lists
    # shellcheck disable=SC2086 # a list of words
    install_packages "to build the packages" $missing
}

setup_native() {
    have apt-get || cannot "the native package is built on Debian 13 or later"
    # -I: no compiler, which dpkg always wants.
    have dpkg-checkbuilddeps && dpkg-checkbuilddeps -I packaging/debian/control 2>/dev/null && return 0
    refresh_package_lists
    say "installing what packaging/debian/control builds with"
    quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get build-dep -y -q --no-install-recommends ./packaging
}

case "${1:-}" in
    python) setup_python ;;
    nodes) setup_nodes ;;
    package) shift && setup_package "$@" ;;
    native) setup_native ;;
    *) die "usage: packaging/setup.sh python|nodes|package|native" ;;
esac

#!/bin/sh
# `make package`: dist/mirror-agent_VERSION_amd64.deb and dist/mirror-agent-VERSION-1.x86_64.rpm from one tree.
#
#   packaging/build.sh [amd64|arm64] [deb|rpm]...    one architecture (amd64), one format (both)
#   packaging/build.sh native                        `make native`: dist/mirror-agent_VERSION~native_all.deb
#
# The same commit gives the same bytes: times are those of the commit, orders and compressors are fixed.
#
#   MIRROR_AGENT_VERSION   another version than the code's (tests of upgrades)
#   MIRROR_AGENT_DIST      another directory than dist/
#   SOURCE_DATE_EPOCH      another time than the commit's
set -eu
cd "$(dirname "$0")/.."

version=${MIRROR_AGENT_VERSION:-$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' agent/__init__.py)}
dist=${MIRROR_AGENT_DIST:-dist}
python=.venv/bin/python
DOC=usr/share/doc/mirror-agent
architecture=amd64
case ${1:-} in amd64 | arm64) architecture=$1 && shift ;; esac
# What kernel, compilers and rpm call it.
case $architecture in amd64) machine=x86_64 ;; arm64) machine=aarch64 ;; esac
export LC_ALL=C.UTF-8 TZ=UTC

if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null) || SOURCE_DATE_EPOCH=1767225600
fi
export SOURCE_DATE_EPOCH

build=$(mktemp -d "${TMPDIR:-/var/tmp}/mirror-agent-package.XXXXXX")
trap 'rm -rf "$build"' EXIT
trap 'exit 1' HUP INT TERM
# Of builds that were killed outright.
find "${build%/*}" -maxdepth 1 -name 'mirror-agent-package.*' -mtime +0 -exec rm -rf {} +

say() { printf 'package: %s\n' "$*"; }

# One time for all, so that neither the checkout's nor the build's is in the package.
settle() { find "$1" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +; }

# bundled WHAT TREE
bundled() { "$python" packaging/bundled.py "$1" "$2" "$version" "$runtime"; }

# --- deb -------------------------------------------------------------------------------------------------------------

debian_documents() {
    bundled copyright "$1" >"$1/$DOC/copyright"
    debian_changelog | gzip -9n >"$1/$DOC/changelog.gz"
    mkdir -p "$1/usr/share/lintian/overrides"
    install -m 644 packaging/deb/lintian-overrides "$1/usr/share/lintian/overrides/mirror-agent"
}

# All formats want a changelog with dates: its one entry is this build, and names the real one.
debian_changelog() {
    printf 'mirror-agent (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md beside this file.\n\n' "${1:-$version}"
    maintainer=$(sed -n 's/^Maintainer: //p' packaging/deb/control)
    printf ' -- %s  %s\n' "$maintainer" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")"
}

debian_control() {
    mkdir "$1/DEBIAN"
    size=$(du -s -k --apparent-size --exclude=DEBIAN "$1" | cut -f 1)
    sed "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@INSTALLED_SIZE@/$size/" \
        packaging/deb/control >"$1/DEBIAN/control"
    install -m 755 packaging/deb/postinst packaging/deb/prerm packaging/deb/postrm "$1/DEBIAN/"
    echo /etc/mirror-agent.yaml >"$1/DEBIAN/conffiles"
    (
        cd "$1"
        find . -path ./DEBIAN -prune -o -path ./etc -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum
    ) >"$1/DEBIAN/md5sums"
    chmod 644 "$1/DEBIAN/control" "$1/DEBIAN/conffiles" "$1/DEBIAN/md5sums"
}

# xz, because dpkg of Debian 11 reads no zstd; one thread, because their number shows in the result.
make_deb() {
    tree=$build/deb
    packaging/tree.sh "$tree" deb "$machine"
    documents "$tree"
    debian_documents "$tree"
    debian_control "$tree"
    settle "$tree"
    dpkg-deb --root-owner-group --threads-max=1 -Zxz --build "$tree" \
        "$build/out/mirror-agent_${version}_$architecture.deb" >/dev/null
}

# --- rpm -------------------------------------------------------------------------------------------------------------

rpm_changelog() {
    printf '* %s The mirror-agent maintainers - %s-1\n' "$(date -u -d "@$SOURCE_DATE_EPOCH" '+%a %b %d %Y')" "$version"
    printf -- '- see /%s/CHANGELOG.md\n' "$DOC"
}

rpm_spec() {
    rpm_changelog >"$build/changelog"
    licenses=$(bundled licenses "$1")
    sed -e "/@CHANGELOG@/{r $build/changelog" -e 'd}' \
        -e "s/@LICENSES@/$licenses/" packaging/rpm/mirror-agent.spec
}

make_rpm() {
    tree=$build/rpm
    packaging/tree.sh "$tree" rpm "$machine"
    documents "$tree"
    mkdir -p "$tree/usr/lib/systemd/system-preset"
    install -m 644 packaging/rpm/50-mirror-agent.preset "$tree/usr/lib/systemd/system-preset/"
    rpm_spec "$tree" >"$build/mirror-agent.spec"
    settle "$tree"
    rpmbuild -bb --quiet --target "$machine" --define "tree $tree" --define "version $version" \
        --define "_topdir $build/rpmbuild" --define "_rpmdir $build/out" \
        --define '_rpmfilename %{name}-%{version}-%{release}.%{_target_cpu}.rpm' \
        --define '_buildhost localhost' --define 'use_source_date_epoch_as_buildtime 1' \
        --define 'clamp_mtime_to_source_date_epoch 1' --define '_dbpath /nonexistent' "$build/mirror-agent.spec"
}

# --- native ----------------------------------------------------------------------------------------------------------

# By debhelper, with the Python and the libraries of the distribution that this runs on. "~": the .deb with its own
# Python is always the higher one of two that have the same version. No compiler is needed, whatever dpkg thinks.
make_native() {
    mkdir "$build/native"
    cp -R agent packaging systemd pyproject.toml README.md CHANGELOG.md LICENSE "$build/native/"
    cp -R packaging/debian "$build/native/debian"
    debian_changelog "$version~native" >"$build/native/debian/changelog"
    (cd "$build/native" && dpkg-buildpackage --build=binary --unsigned-changes --ignore-builtin-builddeps)
    mv "$build/mirror-agent_$version~native_all.deb" "$build/out/"
}

# --- all ------------------------------------------------------------------------------------------------------------

documents() {
    mkdir -p "$1/$DOC"
    install -m 644 CHANGELOG.md "$1/$DOC/"
    bundled sbom "$1" >"$1/$DOC/mirror-agent.cdx.json"
    bundled notices "$1" >"$1/usr/lib/mirror-agent/licenses/THIRD-PARTY"
}

[ $# -gt 0 ] || set -- deb rpm
[ "$*" = native ] || runtime=$(packaging/runtime/build.sh "$machine")
mkdir "$build/out"
running=
for format in "$@"; do
    "make_$format" >"$build/$format.log" 2>&1 &
    running="$running $format:$!"
done
for one in $running; do
    wait "${one#*:}" || {
        cat "$build/${one%:*}.log" >&2
        exit 1
    }
done
mkdir -p "$dist"
for package in "$build"/out/*; do
    mv "$package" "$dist/"
    say "$(stat -c '%s bytes' "$dist/${package##*/}"): $dist/${package##*/}"
done

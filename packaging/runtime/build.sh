#!/bin/sh
# shellcheck disable=SC2016,SC2046,SC2086,SC2183 # flags and file names in here are lists of words
#
# Build the private Python that the packages carry, once: into a directory of the cache that is named after the digest
# of everything in this directory and the lock file. Prints that directory.
#
#   packaging/runtime/build.sh [x86_64|aarch64]
#
# It runs on every Linux with glibc 2.17 or later: one program with all of Python's C modules, libffi, zlib, bzip2 and
# xz inside, one library with OpenSSL, and of the system only glibc, libgcc_s and libsystemd. It is position
# independent, and finds its library from where it lies. The one for aarch64 is built on x86-64 too, with the help of
# the one for that.
#
#   MIRROR_AGENT_RUNTIME_CACHE  where runtimes and sources are kept (/var/cache/mirror-agent-runtime, or the
#                               same below ~/.cache for who may not write there)
#   MIRROR_AGENT_SOURCES        a folder that holds the archives of pins.txt, or the URL of a Debian mirror (default:
#                               the one that apt uses, on Debian; Ubuntu's mirrors do not have them)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
if [ -w /var/cache ]; then cache=/var/cache; else cache=${XDG_CACHE_HOME:-$HOME/.cache}; fi
cache=${MIRROR_AGENT_RUNTIME_CACHE:-$cache/mirror-agent-runtime}
python=$repository/.venv/bin/python
jobs=$(nproc)

PREFIX=/usr/lib/mirror-agent
GLIBC=2.17
ARCHITECTURE=${1:-x86_64}
MACHINE=$(uname -m)

say() { printf 'runtime: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}

# --- what it is made of ----------------------------------------------------------------------------------------------

pin() { awk -v name="$1" -v field="$2" '$1 == name { print $field }' "$here/pins.txt"; }

# The digest of the recipe's own bytes, not of the names and places of its files.
recipe_digest() {
    (
        cd "$here"
        cat build.sh compile.py pins.txt zig.lock prune.txt fficonfig.h libsystemd.c systemd/sd-daemon.h
        cat "$repository/requirements.lock"
    ) | sha256sum | cut -c 1-16
}

apts_mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' 2>/dev/null | head -n 1
}

# archive NAME: the path of its pinned archive, fetched if it is not there, and checked.
archive() {
    place=$(pin "$1" 5) digest=$(pin "$1" 3)
    file=$cache/sources/$digest/${place##*/}
    if [ ! -e "$file" ]; then
        mkdir -p "${file%/*}"
        from=${MIRROR_AGENT_SOURCES:-$(apts_mirror)}
        case $from in
            '')
                die "apt uses no Debian mirror here (on Ubuntu it does not): name one in MIRROR_AGENT_SOURCES, as" \
                    "http://MIRROR/debian, or a folder with the archives of packaging/runtime/pins.txt"
                ;;
            *://*)
                curl -sSfL --retry 3 -o "$file.part" "${from%/}/$place" || die "cannot fetch $place from $from"
                ;;
            *) cp "$from/${place##*/}" "$file.part" || die "$from has no ${place##*/}" ;;
        esac
        printf '%s  %s\n' "$digest" "$file.part" | sha256sum --check --quiet >&2 ||
            die "$place is not what pins.txt says"
        mv "$file.part" "$file"
    fi
    printf '%s\n' "$file"
}

# unpack NAME: its archive in $build/NAME; its licences, and what it says is inside it, beside the tree.
unpack() {
    mkdir -p "$build/$1" "$tree/licenses/$1"
    tar -x -f "$(archive "$1")" -C "$build/$1" --strip-components=1
    (
        cd "$build/$1"
        cp LICENSE* COPYING COPYING.0BSD Doc/license.rst Misc/sbom.spdx.json "$tree/licenses/$1/" 2>/dev/null || true
    )
    [ -n "$(ls "$tree/licenses/$1")" ] || cp "$build/$1/README" "$tree/licenses/$1/"
}

# step NAME COMMAND...: in a shell of its own, with a log that is shown if it fails.
step() {
    name=$1 began=$(date +%s)
    shift
    # In the background, because a shell ignores set -e in what is a condition.
    ("$@") >"$build/log/$name" 2>&1 </dev/null &
    wait $! || {
        tail -n 60 "$build/log/$name" >&2
        die "$name failed"
    }
    say "$name: $(($(date +%s) - began)) s"
}

# --- the compiler ----------------------------------------------------------------------------------------------------

# zig as cc, called by bare names: its own path and the build's stay out of what is built.
compiler() {
    zig=$cache/zig-$(sha256sum <"$here/zig.lock" | cut -c 1-16)
    if [ ! -d "$zig" ]; then
        "$python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --no-compile \
            --target "$zig.part" -r "$here/zig.lock"
        mv "$zig.part" "$zig"
    fi
    mkdir -p "$build/tools"
    wrapper zcc <<END
case " \$* " in
*' -print-multiarch '* | *' --print-multiarch '* | *' -dumpmachine '*) echo $ARCHITECTURE-linux-gnu; exit ;;
*' -print-multi-os-directory '* | *' -print-search-dirs '*) exit ;; esac
exec "$zig/ziglang/zig" cc -target $ARCHITECTURE-linux-gnu.$GLIBC -fno-sanitize=undefined -g0 -Wno-date-time \\
    -ffile-prefix-map="$build"=. "\$@"
END
    wrapper zar <<END
exec "$zig/ziglang/zig" ar "\$@"
END
    wrapper zranlib <<END
exec "$zig/ziglang/zig" ranlib "\$@"
END
}

wrapper() {
    { echo '#!/bin/sh' && cat; } >"$build/tools/$1"
    chmod 755 "$build/tools/$1"
}

# --- the libraries, static -------------------------------------------------------------------------------------------

HARDENED='-O2 -fPIC -fstack-protector-strong'

build_zlib() {
    unpack zlib && cd "$build/zlib"
    zcc $HARDENED -DHAVE_UNISTD_H=1 -DHAVE_STDARG_H=1 -D_LARGEFILE64_SOURCE=1 -c ./*.c
    install_library libz.a zlib.h zconf.h
}

build_bzip2() {
    unpack bzip2 && cd "$build/bzip2"
    zcc $HARDENED -D_FILE_OFFSET_BITS=64 -c \
        blocksort.c huffman.c crctable.c randtable.c compress.c decompress.c bzlib.c
    install_library libbz2.a bzlib.h
}

build_libffi() {
    unpack libffi && cd "$build/libffi"
    case $ARCHITECTURE in
        x86_64) target=X86_64 directory=x86 sources='ffi64.c unix64.S ffiw64.c win64.S' ;;
        aarch64) target=AARCH64 directory=aarch64 sources='ffi.c sysv.S' ;;
    esac
    version=$(pin libffi 2)
    number=$(printf '%d%02d%02d' $(echo "$version" | tr . ' '))
    sed -e "s/@VERSION@/$version/; s/@FFI_VERSION_STRING@/$version/" -e "s/@FFI_VERSION_NUMBER@/$number/" \
        -e "s/@TARGET@/$target/; s/@HAVE_LONG_DOUBLE@/1/; s/@FFI_EXEC_TRAMPOLINE_TABLE@/0/" \
        include/ffi.h.in >include/ffi.h
    cp "$here/fficonfig.h" "src/$directory/ffitarget.h" include/
    zcc $HARDENED -DHAVE_CONFIG_H -Iinclude -Isrc -c \
        src/prep_cif.c src/types.c src/raw_api.c src/java_raw_api.c src/closures.c src/tramp.c \
        $(for source in $sources; do echo "src/$directory/$source"; done)
    install_library libffi.a include/ffi.h include/ffitarget.h
}

# install_library NAME HEADER...: the objects in this directory as a library.
install_library() {
    zar rc "$libraries/lib/$1" ./*.o
    zranlib "$libraries/lib/$1"
    shift
    cp "$@" "$libraries/include/"
}

build_xz() {
    unpack xz && cd "$build/xz"
    ./configure --host="$ARCHITECTURE-linux-gnu" --prefix="$libraries" --disable-shared --with-pic \
        --disable-nls --disable-doc --disable-xz --disable-xzdec --disable-lzmadec --disable-lzmainfo \
        --disable-lzma-links --disable-scripts CFLAGS="$HARDENED"
    make -C src/liblzma -j "$jobs" install
}

# Its settings are ours alone: the node's openssl.cnf is not read (it may name providers that are not in here). The
# roots are the node's.
build_openssl() {
    unpack openssl && cd "$build/openssl"
    CFLAGS=$HARDENED ./Configure "linux-$ARCHITECTURE" --prefix=$PREFIX --openssldir=/etc/ssl --libdir=lib \
        no-shared no-module no-autoload-config no-apps no-tests no-docs no-legacy no-engine no-comp no-dtls no-quic \
        no-ssl3 no-afalgeng no-zlib no-cmp no-cms no-ts no-srp no-idea no-rc2 no-rc4 no-seed no-bf no-cast no-mdc2 \
        no-md4 no-whirlpool no-aria no-camellia no-gost no-ui-console no-uplink
    make -j "$jobs" build_libs
    make install_dev DESTDIR="$libraries/openssl"
}

# --- Python ----------------------------------------------------------------------------------------------------------

# MODULE_BUILDTYPE and Setup.local: every module that can be built is a part of the program, but for OpenSSL's, which
# would be half of its relocations at each start, and which the agent never loads: only what talks to mirrors does.
# hashlib has the digests that are Python's own.
build_python() {
    cd "$build/python"
    for module in _tkinter _curses _curses_panel _sqlite3 _dbm _gdbm readline _uuid _zstd nis pyexpat _elementtree \
        _ssl _hashlib; do
        export "py_cv_module_$module=n/a"
    done
    ./configure $(for_another_machine) --prefix=$PREFIX --disable-shared --without-static-libpython \
        --disable-test-modules --without-ensurepip --without-readline --without-doc-strings --with-tail-call-interp \
        --with-ssl-default-suites=openssl MODULE_BUILDTYPE=static PKG_CONFIG=false \
        CFLAGS='-O2 -fPIE -fstack-protector-strong' LDFLAGS='-pie -s -Wl,-z,relro,-z,now' \
        LIBFFI_CFLAGS="-I$libraries/include" LIBFFI_LIBS="$libraries/lib/libffi.a" \
        ZLIB_CFLAGS="-I$libraries/include" ZLIB_LIBS="$libraries/lib/libz.a" \
        BZIP2_CFLAGS="-I$libraries/include" BZIP2_LIBS="$libraries/lib/libbz2.a" \
        LIBLZMA_CFLAGS="-I$libraries/include" LIBLZMA_LIBS="$libraries/lib/liblzma.a"
    cp Modules/Setup.stdlib Modules/Setup.local
    make -j "$jobs" python
    zcc $HARDENED -std=c11 -I. -IInclude -IInclude/internal -I"$libraries/openssl$PREFIX/include" \
        -shared -s -Wl,-z,relro,-z,now -Wl,--version-script="$build/module.map" -o "$build/_ssl.so" \
        Modules/_ssl.c "$libraries/openssl$PREFIX/lib/libssl.a" "$libraries/openssl$PREFIX/lib/libcrypto.a"
}

# What configure cannot try out when it builds for another machine.
for_another_machine() {
    [ "$ARCHITECTURE" = "$MACHINE" ] ||
        echo "--build=$MACHINE-pc-linux-gnu --host=$ARCHITECTURE-unknown-linux-gnu --with-build-python=$native" \
            ac_cv_file__dev_ptmx=yes ac_cv_file__dev_ptc=no ac_cv_buggy_getaddrinfo=no
}

place_python() {
    mkdir -p "$tree/bin" "$tree/lib"
    cp "$build/python/python" "$tree/bin/python3.14"
    cp -R "$build/python/Lib" "$tree/lib/python3.14"
    cd "$tree/lib/python3.14"
    sed 's/#.*//' "$here/prune.txt" | while read -r name; do
        [ -z "$name" ] || rm -r $name
    done
    find . -name __pycache__ -prune -exec rm -r {} +
    sed -i '1{/^#!/d}' encodings/rot_13.py
    # In place of everything about this build: the one variable of it that the library reads at run time (zoneinfo).
    echo "build_time_vars = {'TZPATH': '/usr/share/zoneinfo'}" >"_sysconfigdata__linux_$ARCHITECTURE-linux-gnu.py"
    mkdir lib-dynload site-packages
    install -m 644 "$build/_ssl.so" lib-dynload/
}

# --- packages --------------------------------------------------------------------------------------------------------

# Which file of each that the lock allows was taken.
DIGESTS='import json, sys
for one in sorted((item["metadata"]["name"].lower(), item["download_info"]["archive_info"]["hashes"]["sha256"])
                  for item in json.load(open(sys.argv[1]))["install"]):
    print(*one)'

wheels() {
    awk '/^[a-z]/ { kept = !/^systemd-python/ } kept' "$repository/requirements.lock" >"$build/wheels.lock"
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --no-compile \
        --target "$packages" --only-binary=:all: --implementation cp --python-version 3.14 \
        --platform "manylinux2014_$ARCHITECTURE" --platform "manylinux_2_17_$ARCHITECTURE" -r "$build/wheels.lock" \
        --report "$build/wheels.json"
    "$python" -c "$DIGESTS" "$build/wheels.json" >"$tree/wheels.txt"
    rm -rf "${packages:?}/bin"
    find "$packages" -name __pycache__ -prune -exec rm -r {} +
    find "$packages" \( -name '*.pyi' -o -name '*.pyx' -o -name '*.[ch]' \) -delete
    find "$packages" \( -name RECORD -o -name REQUESTED -o -name INSTALLER \) -delete
    find "$packages" -name '*.so' -exec "$STRIP" --strip-unneeded {} +
    find "$tree/lib" -type f -exec chmod 644 {} +
}

# Only what tells systemd that we are ready and alive: the journal is written without libsystemd.
systemd_python() {
    unpack systemd-python && cd "$build/systemd-python/systemd"
    mkdir -p "$packages/systemd"
    zcc -shared -fPIC -Wl,-soname,libsystemd.so.0 -Wl,--version-script="$build/libsystemd.map" \
        -o "$build/libsystemd.so" "$here/libsystemd.c"
    zcc $HARDENED -std=c99 -D_GNU_SOURCE -DPACKAGE_VERSION='"235"' -DLIBSYSTEMD_VERSION=209 \
        -shared -s -Wl,-z,relro,-z,now -I"$here" -I"$build/python" -I"$build/python/Include" \
        -o "$packages/systemd/_daemon.so" _daemon.c pyutil.c util.c "$build/libsystemd.so"
    cp __init__.py daemon.py "$packages/systemd/"
    chmod 644 "$packages/systemd/_daemon.so"
}

compile_all() {
    PYTHONHASHSEED=0 "$native" -sB -X no_debug_ranges "$here/compile.py" "$tree/lib" $PREFIX/lib
}

# Another machine's is started by tests/package, under qemu: it needs that machine's glibc.
smoke() {
    [ "$ARCHITECTURE" != "$MACHINE" ] || "$tree/bin/python3.14" -IB "$here/smoke.py"
}

# --- all of it -------------------------------------------------------------------------------------------------------

build_all() {
    tree=$build/tree libraries=$build/libraries packages=$build/tree/lib/python3.14/site-packages
    native=$tree/bin/python3.14 STRIP=strip
    if [ "$ARCHITECTURE" != "$MACHINE" ]; then
        native=$("$here/build.sh" "$MACHINE")/bin/python3.14 STRIP=$ARCHITECTURE-linux-gnu-strip
    fi
    export PATH="$build/tools:$PATH" CC=zcc AR=zar RANLIB=zranlib LC_ALL=C.UTF-8
    export ZIG_GLOBAL_CACHE_DIR="$build/zig" ZIG_LOCAL_CACHE_DIR="$build/zig" SOURCE_DATE_EPOCH=1700000000
    unset CFLAGS CPPFLAGS LDFLAGS CXX MAKEFLAGS PYTHONPATH PYTHONHOME 2>/dev/null || true
    rm -rf "$build"
    mkdir -p "$build/log" "$tree" "$libraries/lib" "$libraries/include"
    echo 'LIBSYSTEMD_209 { global: sd_*; local: *; };' >"$build/libsystemd.map"
    echo '{ global: PyInit_*; local: *; };' >"$build/module.map"
    step compiler compiler
    step libffi build_libffi &
    small=$!
    step zlib build_zlib
    step bzip2 build_bzip2
    wait $small
    step unpack unpack python
    step xz build_xz &
    small=$!
    step openssl build_openssl
    wait $small
    step python build_python
    step place place_python
    step wheels wheels
    step systemd-python systemd_python
    step bytecode compile_all
    step smoke smoke
}

main() {
    case $ARCHITECTURE in
        x86_64 | aarch64) ;;
        *) die "there is no recipe for $ARCHITECTURE" ;;
    esac
    key=$(recipe_digest)
    final=$cache/$key-$ARCHITECTURE
    if [ ! -d "$final" ]; then
        mkdir -p "$cache/sources"
        exec 9>"$final.lock"
        flock 9
        if [ ! -d "$final" ]; then
            say "building the private Python; it is kept in $final"
            # What was killed stays for a day, to be looked at.
            find "$cache" -maxdepth 1 -name 'build-*' -mtime +0 -exec rm -rf {} +
            build=$cache/build-$key-$ARCHITECTURE
            build_all
            mv "$build/tree" "$final"
            rm -rf "$build"
        fi
    fi
    printf '%s\n' "$final"
}

main

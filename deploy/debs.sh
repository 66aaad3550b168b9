# shellcheck shell=bash
# Shared by tests/gpu.sh and bench/gpu.sh: building from the packages in .deb/ (deploy/fetch-debs.sh).
# They are unpacked into a folder of their own: over a running system's files they could break it. What
# is there as an archive is linked from it, so that a program needs nothing of that folder to run.

# unpack_deb FILE FOLDER
unpack_deb() {
    if command -v dpkg >/dev/null; then
        dpkg -x "$1" "$2"
    else
        ar p "$1" data.tar.xz | tar -xJ -C "$2"
    fi
}

# prefer_archives LIB: no shared object where there is an archive; libuv's has another name.
prefer_archives() {
    local archive
    [ ! -f "$1/libuv_a.a" ] || cp "$1/libuv_a.a" "$1/libuv.a"
    for archive in "$1"/*.a; do
        rm -f "${archive%.a}.so"
    done
}

# use_debs ROOT: nothing where there are none. debs holds what CMake is to be told.
debs=()
use_debs() {
    local into=$1/build/debs package lib headers
    lib=$into/usr/lib/$(uname -m)-linux-gnu
    headers=$into/usr/include/$(uname -m)-linux-gnu
    ls "$1"/.deb/*.deb >/dev/null 2>&1 || return 0
    mkdir -p "$into"
    for package in "$1"/.deb/*.deb; do
        unpack_deb "$package" "$into" || return 1
    done
    prefer_archives "$lib"
    # A compiler looks there by itself under /usr alone.
    [ ! -d "$headers" ] || cp -r "$headers/." "$into/usr/include/"
    export PKG_CONFIG_SYSROOT_DIR=$into PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1
    export PKG_CONFIG_PATH=$lib/pkgconfig:$into/usr/share/pkgconfig
    # pkg-config of another system finds its library; nothing else is made to look here.
    if ! command -v pkg-config >/dev/null; then
        mkdir -p "$into/bin"
        printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$lib" "$into/usr/bin/pkgconf" \
            >"$into/bin/pkg-config"
        chmod +x "$into/bin/pkg-config"
        export PATH=$PATH:$into/bin
    fi
    for package in "$into"/usr/share/nodejs/llhttp "$into"/usr/share/llhttp; do
        [ -f "$package/llhttp.c" ] && debs+=("-DLLHTTP_SOURCE=$package/llhttp.c")
    done
    for package in "$into"/usr/share/include/llhttp "$into"/usr/include/llhttp "$into"/usr/share/nodejs/llhttp; do
        [ -f "$package/llhttp.h" ] && debs+=("-DLLHTTP_INCLUDE=$package")
    done
    return 0
}

# gpu_arch: of the first GPU, as CMake takes it; "native" would leave out what sm_90a alone has.
gpu_arch() {
    local arch
    arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d '. ')
    case "$arch" in
    90) echo 90a-real ;;
    "" | *[!0-9]*) echo native ;; # nvidia-smi has no answer, or says why in words
    *) echo "$arch-real" ;;
    esac
}

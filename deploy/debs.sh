# shellcheck shell=bash
# Shared by tests/gpu.sh and bench/gpu.sh: building from the packages in .deb/ (deploy/fetch-debs.sh).
# They are unpacked into a folder of their own: over a running system's files they could break it.

# use_debs ROOT: nothing where there are none. debs holds what CMake is to be told.
debs=()
use_debs() {
    local into=$1/build/debs package lib
    lib=$into/usr/lib/$(uname -m)-linux-gnu
    ls "$1"/.deb/*.deb >/dev/null 2>&1 || return 0
    mkdir -p "$into"
    for package in "$1"/.deb/*.deb; do
        dpkg -x "$package" "$into" || return 1
    done
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
    [ "$arch" != 90 ] || arch=90a
    echo "${arch:+$arch-real}" | sed 's/^$/native/'
}

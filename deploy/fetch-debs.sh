#!/usr/bin/env bash
# Downloads what a build and the tests need beyond a compiler, as .deb files in .deb/ (git ignores it),
# for a machine of the same distribution without a network: tests/gpu.sh unpacks them there.
#   deploy/fetch-debs.sh        run where apt works; a few megabytes
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# Headers, and the libraries that they are linked with; llhttp comes as C sources, or as a library.
wanted="libuv1-dev libcjson-dev libutf8proc-dev libpcre2-dev libssl-dev libcmocka-dev pkgconf pkgconf-bin
    libpkgconf3 libuv1 libuv1t64 libcjson1 libutf8proc2 libutf8proc3 libpcre2-8-0 libpcre2-posix3 libssl3
    libssl3t64 libcmocka0 libllhttp-dev libllhttp9.3 node-llhttp"
mkdir -p "$root/.deb/partial"
cd "$root/.deb"
for package in $wanted; do
    # What another release calls otherwise is not there; what must be is checked below.
    apt-cache show "$package" >/dev/null 2>&1 && apt-get -qq download "$package"
done
rmdir partial 2>/dev/null || true
missing=""
for part in libuv1 libcjson libutf8proc libpcre2 libssl libcmocka llhttp; do
    ls ./*"$part"*.deb >/dev/null 2>&1 || missing="$missing $part"
done
[ -z "$missing" ] || { echo "error: not found:$missing (apt-get update?)" >&2; exit 1; }
echo "$(find . -name '*.deb' | wc -l) packages, $(du -sh . | cut -f1), in .deb/"

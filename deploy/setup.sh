# shellcheck shell=bash
# Shared by deploy/run.sh and tests/run.sh: packages and builds. Sourced, bash.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
yes=0 # 1: install without asking

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

installed() { [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null)" = "ii " ]; }

# llhttp comes as a library where the distribution has a recent one, else as C sources.
llhttp_package() {
    if apt-cache show libllhttp-dev >/dev/null 2>&1; then
        echo libllhttp-dev
    else
        echo node-llhttp
    fi
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        command -v sudo >/dev/null || die "not root and no sudo; as root, run: $*"
        sudo "$@"
    fi
}

confirm() {
    [ "$yes" -eq 1 ] && return
    [ -t 0 ] || die "needs to install:$1 (run again with -y to agree)"
    printf 'Install with apt:%s\nGo on? [Y/n] ' "$1" >&2
    local answer
    read -r answer
    case "$answer" in
    "" | y | Y | yes) ;;
    *) die "nothing was installed" ;;
    esac
}

# On a terminal apt shows its own progress; in a log it is quiet unless it fails.
apt_install() {
    local apt="env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends" output
    if [ -t 2 ]; then
        as_root $apt -q "$@" >&2
        return
    fi
    output=$(as_root $apt -qq "$@" 2>&1) || { printf '%s\n' "$output" >&2; return 1; }
}

has_llhttp() { installed libllhttp-dev || installed node-llhttp; }

# install_missing PACKAGE...: asks once, then installs what is not there. llhttp is always among
# them; what it is called is known only when the package lists are there.
install_missing() {
    command -v dpkg-query >/dev/null ||
        die "this script knows Debian and Ubuntu; README.md lists what to install elsewhere"
    local wanted="" package
    for package in "$@"; do
        installed "$package" || wanted="$wanted $package"
    done
    if [ -z "$wanted" ] && has_llhttp; then
        return
    fi
    confirm "$wanted$(has_llhttp || echo ' llhttp')"
    say "updating the package lists"
    as_root apt-get -qq update || die "apt-get update failed"
    has_llhttp || wanted="$wanted $(llhttp_package)"
    say "installing:$wanted"
    # shellcheck disable=SC2086
    apt_install $wanted || die "apt-get install failed"
}

build_packages="gcc g++ cmake ninja-build pkg-config libc6-dev libuv1-dev libcjson-dev
    libutf8proc-dev libpcre2-dev libssl-dev"

# configure PRESET: finds compilers and packages anew.
configure() {
    local output
    say "configuring ($1)"
    output=$(cd "$root" && cmake --preset "$1" 2>&1) ||
        { printf '%s\n' "$output" >&2; die "configuring failed"; }
}

# build PRESET TARGET...: configures once, then builds what changed.
# ninja's progress line is shown on a terminal only; errors always.
build() {
    local preset=$1 dir="$root/build/$1" output
    shift
    [ -f "$dir/build.ninja" ] || configure "$preset"
    if [ -t 2 ]; then
        ninja -C "$dir" "$@" >&2 || die "the build failed"
    else
        output=$(ninja -C "$dir" "$@" 2>&1) ||
            { printf '%s\n' "$output" >&2; die "the build failed"; }
    fi
}

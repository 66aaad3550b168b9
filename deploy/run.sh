#!/usr/bin/env bash
# From a fresh checkout to a listening server: installs what is missing, builds, starts.
#   ./deploy/run.sh [-y] [server options]       e.g. ./deploy/run.sh --model ~/TinyLlama
set -euo pipefail
. "$(dirname "$0")/setup.sh"

arguments=()
for argument in "$@"; do
    case "$argument" in
    -y | --yes) yes=1 ;;
    *) arguments+=("$argument") ;;
    esac
done

preset=cpu
export PATH="$PATH:/usr/local/cuda/bin"
if command -v nvcc >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
    preset=cuda
fi
# shellcheck disable=SC2086
install_missing $build_packages
[ -x "$root/build/$preset/firstlight" ] || say "building ($preset): about a minute, once"
build "$preset" firstlight
exec "$root/build/$preset/firstlight" serve "${arguments[@]}"

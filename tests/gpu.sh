#!/usr/bin/env bash
# The tests that need a GPU, in less than nine minutes: the cases of every kernel on the real one, by
# each kernel of the table, models and batches, the program end to end, faults, and the sanitizers of
# the CUDA toolkit. Goes on after a failure; ends with "N passed, N failed, N cut short".
#   ./tests/gpu.sh [FOLDER]      FOLDER: where the logs go (default build/gpu-logs), three files
# Beyond CMake, ninja and the CUDA toolkit it needs the packages of README.md; without a network they
# may lie as .deb files in .deb/ (deploy/fetch-debs.sh).
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
logs=${1:-$root/build/gpu-logs}
seconds=${SECONDS_MAX:-530}
mkdir -p "$logs" && logs=$(cd "$logs" && pwd) || exit 1
cd "$root" || exit 1
export PATH="$PATH:/usr/local/cuda/bin"
summary=$logs/gpu-tests.txt log=$logs/gpu-tests.log
: >"$summary"
: >"$log"
say() { echo "$*" | tee -a "$summary"; }

nvidia-smi -L >>"$log" 2>&1 || { say "error: no GPU here"; exit 1; }
say "$(nvidia-smi -L)"
# shellcheck source=deploy/debs.sh
. deploy/debs.sh
use_debs "$root" >>"$log" 2>&1
cmake --preset cuda -DCMAKE_CUDA_ARCHITECTURES="$(gpu_arch)" "${debs[@]}" >"$logs/gpu-build.log" 2>&1 &&
    ninja -C build/cuda >>"$logs/gpu-build.log" 2>&1 ||
    { tail -30 "$logs/gpu-build.log"; say "error: the build failed"; exit 1; }
say "built after $SECONDS s"

passed=0 failed=0 cut=0
verdict() { # verdict NAME STATUS SECONDS LOG
    case "$2" in
    0) passed=$((passed + 1)) && say "ok      $1 ($3 s)" ;;
    124 | 137) cut=$((cut + 1)) && say "CUT     $1 ($3 s)" ;;
    *) failed=$((failed + 1)) && say "FAILED  $1 ($2)" && tail -25 "$4" ;;
    esac
    { echo "==== $1: $2"; cat "$4"; } >>"$log"
    rm -f "$4"
}

# check NAME LIMIT COMMAND...: one line; the end of what it said if it failed.
check() {
    local name=$1 limit=$2 started=$SECONDS own rc
    shift 2
    own=$(mktemp)
    [ $((seconds - SECONDS)) -gt "$limit" ] || limit=$((seconds - SECONDS))
    [ "$limit" -gt 0 ] || limit=1
    FIRSTLIGHT_BACKEND=cuda timeout -k 5 "$limit" "$@" >"$own" 2>&1
    rc=$?
    verdict "$name" "$rc" $((SECONDS - started)) "$own"
}

# refused COMMAND...: must end by itself with an error, not a crash.
# shellcheck disable=SC2317
refused() {
    "$@"
    local rc=$?
    [ "$rc" -ne 0 ] && [ "$rc" -lt 124 ]
}
export -f refused

for name in ops attention sampling forward model; do
    check "$name" 60 "build/cuda/${name}_test"
done
# The kernels of the table in kernels/linear.cu, each by itself on every shape that it takes.
sed -n 's/^    {"\([a-z0-9 ]*\)", linear_.*/\1/p' kernels/linear.cu >"$logs/kernels"
while read -r kernel; do
    check "ops by ${kernel}" 60 env FIRSTLIGHT_LINEAR="$kernel" build/cuda/ops_test
    check "forward by ${kernel}" 60 env FIRSTLIGHT_LINEAR="$kernel" build/cuda/forward_test
done <"$logs/kernels"
rm -f "$logs/kernels"
for name in golden company quality engine; do
    check "$name" 90 "build/cuda/${name}_test"
done
for how in plain graph early; do
    check "company, launched by ${how}" 60 env FIRSTLIGHT_LAUNCH="$how" build/cuda/company_test
done
check e2e 120 python3 tests/e2e.py --binary build/cuda/firstlight
check "no device" 20 bash -c 'CUDA_VISIBLE_DEVICES= refused build/cuda/firstlight run models/demo --raw Hello --backend cuda'
check "a cache larger than the device" 60 bash -c \
    'refused build/cuda/firstlight run models/demo --raw Hello --backend cuda --kv-bytes 900000000000'

# One process a tool, side by side: they wait for the host more than for the device.
if command -v compute-sanitizer >/dev/null; then
    running=()
    for tool in memcheck racecheck synccheck; do
        for name in ops attention forward; do
            own=$(mktemp)
            FIRSTLIGHT_BACKEND=cuda timeout -k 5 $((seconds > SECONDS ? seconds - SECONDS : 1)) \
                compute-sanitizer --tool "$tool" --error-exitcode 9 "build/cuda/${name}_test" >"$own" 2>&1 &
            running+=("$! $tool.$name $own")
        done
    done
    for entry in "${running[@]}"; do
        read -r pid name own <<<"$entry"
        wait "$pid"
        verdict "$name" $? "$SECONDS" "$own"
    done
else
    say "compute-sanitizer is not here"
fi
say "$passed passed, $failed failed, $cut cut short, $SECONDS s"
[ "$failed" -eq 0 ]

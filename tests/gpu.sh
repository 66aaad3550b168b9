#!/usr/bin/env bash
# The tests that need a GPU, in less than nine minutes: the cases of every kernel on the real one, by
# each kernel of the table, models and batches, the program end to end, faults, and the sanitizers of
# the CUDA toolkit. What says most comes first. Goes on after a failure, of the build too; ends with
# "N passed, N failed, N cut short".
#   ./tests/gpu.sh [--quick] [--backend cpu] [FOLDER]
#   --quick         first contact, in less than three minutes behind the build: each operation waited
#                   for by itself, so that an error names its line, then whole steps, and the demo's
#                   words beside the cpu's
#   --backend cpu   tries the script itself, without a GPU: other answers to the same lines
#   FOLDER          where the logs go as they come (default build/gpu-logs), three files
# Beyond CMake, ninja and the CUDA toolkit it needs the packages of README.md; without a network they
# may lie as .deb files in .deb/ (deploy/fetch-debs.sh).
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
quick=false backend=cuda logs=$root/build/gpu-logs
while [ $# -gt 0 ]; do
    case "$1" in
    --quick) quick=true ;;
    --backend) backend=${2:-} && shift ;;
    -*) echo "error: unknown option $1" >&2 && sed -n '2,14s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
    *) logs=$1 ;;
    esac
    shift
done
case "$backend" in cuda | cpu) ;; *) echo "error: --backend $backend: cuda or cpu" >&2 && exit 2 ;; esac
seconds=${SECONDS_MAX:-530}
mkdir -p "$logs" && logs=$(cd "$logs" && pwd) || exit 1
cd "$root" || exit 1
export PATH="$PATH:/usr/local/cuda/bin" FIRSTLIGHT_BACKEND=$backend
build=build/$backend
summary=$logs/gpu-tests.txt log=$logs/gpu-tests.log
: >"$summary"
: >"$log"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
say() { echo "$*" | tee -a "$summary"; }

if [ "$backend" = cpu ]; then # what is asked of a GPU's machine answers as one would
    printf '#!/bin/sh\necho "no GPU: $*"\n' >"$scratch/nvidia-smi"
    printf '#!/bin/sh\nshift 4\nexec "$@"\n' >"$scratch/compute-sanitizer"
    chmod +x "$scratch/nvidia-smi" "$scratch/compute-sanitizer"
    export PATH="$scratch:$PATH"
fi
nvidia-smi -L >>"$log" 2>&1 || { say "error: no GPU here"; exit 1; }
say "$(nvidia-smi -L)"
{ nvidia-smi; cmake --version; nvcc --version; python3 --version; nproc; } >>"$log" 2>&1
# shellcheck source=deploy/debs.sh
. deploy/debs.sh
use_debs "$root" >>"$log" 2>&1 || say "the packages in .deb/ could not be unpacked"
arch=$(gpu_arch)
programs=(firstlight ops_test attention_test sampling_test forward_test golden_test)
"$quick" || programs+=(model_test company_test quality_test engine_test)
cmake --preset "$backend" -DCMAKE_CUDA_ARCHITECTURES="$arch" "${debs[@]}" >"$logs/gpu-build.log" 2>&1 ||
    { tail -30 "$logs/gpu-build.log"; say "error: not configured"; exit 1; }
ninja -k 0 -C "$build" "${programs[@]}" >>"$logs/gpu-build.log" 2>&1 ||
    { grep -aE "error|FAILED" "$logs/gpu-build.log" | head -20; say "FAILED  the build, in part"; }
say "built for $arch after $SECONDS s"
"$quick" && [ $((SECONDS + 170)) -lt "$seconds" ] && seconds=$((SECONDS + 170))

passed=0 failed=0 cut=0
verdict() { # verdict NAME STATUS SECONDS LOG
    case "$2" in
    0) passed=$((passed + 1)) && say "ok      $1 ($3 s)" ;;
    124 | 137) cut=$((cut + 1)) && say "CUT     $1 ($3 s)" ;;
    # The first error of the device is what the others follow from.
    *) failed=$((failed + 1)) && say "FAILED  $1 ($2)" &&
        { grep -aEm2 " error cuda|^ERROR" "$4"; tail -n 8 "$4"; } | tee -a "$summary" ;;
    esac
    { echo "==== $1: $2"; tail -c 200000 "$4"; } >>"$log"
    rm -f "$4"
}

# check NAME LIMIT COMMAND...: one line; the end of what it said if it failed.
check() {
    local name=$1 limit=$2 started=$SECONDS own rc
    shift 2
    own=$(mktemp -p "$scratch")
    [ $((seconds - SECONDS)) -gt "$limit" ] || limit=$((seconds - SECONDS))
    [ "$limit" -gt 0 ] || limit=1
    timeout -k 5 "$limit" "$@" >"$own" 2>&1
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
# same_words: the demo says what it says on the cpu.
# shellcheck disable=SC2317
same_words() {
    local one other
    one=$("$1" run models/demo --raw "The capital of France is" --temperature 0 --max-tokens 24 --backend cpu) &&
        other=$("$1" run models/demo --raw "The capital of France is" --temperature 0 --max-tokens 24 --backend "$2") || return 1
    printf 'cpu:  %s\n%s: %s\n' "$one" "$2" "$other"
    [ -n "$one" ] && [ "$one" = "$other" ]
}
export -f refused same_words

words=(bash -c "same_words $build/firstlight $backend")
for name in ops attention sampling forward; do
    check "$name, each operation waited for" 60 env FIRSTLIGHT_LAUNCH=checked "$build/${name}_test"
done
check "the demo's words" 30 "${words[@]}"
for how in plain early graph; do
    check "forward, launched by $how" 40 env FIRSTLIGHT_LAUNCH="$how" "$build/forward_test"
done
check golden 90 "$build/golden_test"
if "$quick"; then
    say "$passed passed, $failed failed, $cut cut short, $SECONDS s"
    [ "$failed" -eq 0 ]
    exit
fi

for name in ops attention sampling forward model company quality engine; do
    check "$name" 60 "$build/${name}_test"
done
# The kernels of the table in kernels/linear.cu, each by itself on every shape that it takes.
while read -r kernel; do
    check "ops by $kernel" 60 env FIRSTLIGHT_LINEAR="$kernel" "$build/ops_test"
    check "forward by $kernel" 60 env FIRSTLIGHT_LINEAR="$kernel" "$build/forward_test"
done < <(sed -n 's/^    {"\([a-z0-9 ]*\)", linear_.*/\1/p' kernels/linear.cu)
for how in plain graph early; do
    check "company, launched by $how" 60 env FIRSTLIGHT_LAUNCH="$how" "$build/company_test"
done
check e2e 120 env -u FIRSTLIGHT_BACKEND python3 tests/e2e.py --binary "$build/firstlight"
if [ "$backend" = cuda ]; then
    check "no device" 20 bash -c \
        "CUDA_VISIBLE_DEVICES= refused $build/firstlight run models/demo --raw Hello --backend cuda"
fi
check "a cache larger than the device" 60 bash -c \
    "refused $build/firstlight run models/demo --raw Hello --backend $backend --kv-bytes 10T"
check "the plan" 30 "$build/firstlight" serve --plan --backend "$backend" --model models/demo

# One process a tool, side by side: they wait for the host more than for the device.
if command -v compute-sanitizer >/dev/null; then
    running=()
    for tool in memcheck racecheck synccheck; do
        for name in ops attention forward; do
            own=$(mktemp -p "$scratch")
            timeout -k 5 $((seconds > SECONDS ? seconds - SECONDS : 1)) \
                compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/${name}_test" >"$own" 2>&1 &
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

#!/usr/bin/env bash
# Installs what the tests need, builds, runs every test that needs no GPU, and ends with a
# line "N passed, N failed".
#   ./tests/run.sh [-y] [--all]      --all adds the long suites (clang-tidy, fuzzing, clients)
set -euo pipefail
. "$(dirname "$0")/../deploy/setup.sh"

all=0
[ "${CI:-}" = true ] && yes=1
for argument in "$@"; do
    case "$argument" in
    -y | --yes) yes=1 ;;
    --all) all=1 ;;
    *) die "unknown argument $argument (known: -y, --all)" ;;
    esac
done

passed=0
failed=0
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# count NAME STATUS LOG: adds the cases of one log; a program that failed without saying
# which case (a crash, a sanitizer report) is one failed case.
count() {
    local good bad
    good=$(sed -n 's/.*\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$3" | awk '{n += $1} END {print n + 0}')
    bad=$(sed -n 's/.*\[  FAILED  \] \([0-9]*\) test.*/\1/p' "$3" | awk '{n += $1} END {print n + 0}')
    if [ "$2" -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1
    fi
    passed=$((passed + good))
    failed=$((failed + bad))
    if [ "$bad" -ne 0 ]; then
        say "$1: $good passed, $bad failed"
        cat "$3" >&2
    else
        say "$1: $good passed"
    fi
}

# suite NAME COMMAND...: runs it, counts its cases.
suite() {
    local name=$1 status=0
    shift
    "$@" >"$logs/log" 2>&1 || status=$?
    grep -h 'skipped:' "$logs/log" | sort -u | sed 's/^/    /' >&2 || true
    count "$name" "$status" "$logs/log"
}

# One program at a time where programs watch the clock; the emulated kernels watch none.
in_preset() { (cd "$root" && ctest --test-dir "build/$1" --verbose "${@:2}"); }

# shellcheck disable=SC2086
install_missing $build_packages libcmocka-dev openssl python3
started=$SECONDS

# A folder that run.sh configured may not know of the packages that tests need.
for preset in cpu asan tsan; do
    configure "$preset"
done
say "building: cpu"
build cpu all bench
[ -x "$root/build/cpu/ops_test" ] || die "the tests were not built: cmocka was not found"
suite "tests (cpu)" in_preset cpu -LE simt
suite "emulated kernels (cpu)" in_preset cpu -L simt -j "$(nproc)"

say "building: asan (AddressSanitizer and UndefinedBehaviorSanitizer)"
build asan all
suite "tests (asan)" in_preset asan -LE 'tidy|simt'
suite "emulated kernels (asan)" in_preset asan -L simt -LE shuffled -j "$(nproc)"

say "building: tsan (ThreadSanitizer)"
build tsan threads_test engine_test simt_test ops_simt attention_simt cuda_fault
suite "thread hand-off (tsan)" in_preset tsan -L threads
suite "emulated kernels (tsan)" in_preset tsan -L "^race" -j "$(nproc)"

if command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; then
    say "building: cuda (compiled, not run)"
    if (build cuda firstlight); then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
    fi
    suite "registers and spills (ptxas)" python3 "$root/tests/registers.py" --check
else
    say "skipped: no nvcc, the CUDA backend is not compiled"
fi

if [ "$all" -eq 1 ]; then
    . "$root/tests/long.sh"
fi

say "$((SECONDS - started)) s without installing"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]

#!/usr/bin/env bash
# The tests that need a GPU: the cases of every backend on the real one, the forward pass, real
# checkpoints where they are, and the program end to end. Ends with "N passed, N failed".
#   ./tests/gpu.sh [FOLDER]      FOLDER: where the logs go (default build/gpu-logs)
# On a machine without a network, packages may lie as .deb files in ./.deb; they are unpacked.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
logs=${1:-$root/build/gpu-logs}
mkdir -p "$logs"
cd "$root" || exit 1
export PATH="$PATH:/usr/local/cuda/bin"

nvidia-smi -L || { echo "error: no GPU here"; exit 1; }
for package in .deb/*.deb; do
    [ -f "$package" ] && dpkg -x "$package" /
done
ldconfig

cmake --preset cuda -DCMAKE_CUDA_ARCHITECTURES=native >"$logs/configure.log" 2>&1 &&
    ninja -C build/cuda >"$logs/build.log" 2>&1 ||
    { tail -30 "$logs/configure.log" "$logs/build.log"; echo "error: the build failed"; exit 1; }

passed=0
failed=0
check() { # check NAME COMMAND...: one line, the end of the log if it failed
    local name=$1 started=$SECONDS
    shift
    if FIRSTLIGHT_BACKEND=cuda "$@" >"$logs/$name.log" 2>&1; then
        passed=$((passed + 1))
        echo "ok      $name ($((SECONDS - started)) s)"
    else
        failed=$((failed + 1))
        echo "FAILED  $name"
        tail -40 "$logs/$name.log"
    fi
}

for name in ops attention sampling forward model golden company; do
    check "${name}_test" "build/cuda/${name}_test"
done
check e2e python3 tests/e2e.py --binary build/cuda/firstlight
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        check "$tool" compute-sanitizer --tool "$tool" --error-exitcode 9 build/cuda/ops_test
        check "${tool}_attention" compute-sanitizer --tool "$tool" --error-exitcode 9 \
            build/cuda/attention_test
    done
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]

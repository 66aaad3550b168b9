#!/usr/bin/env bash
# The kernels of the cpu on aarch64: cross-compiled, and their tests run by an emulator of a
# processor with the dot product and of one without. Needs gcc-aarch64-linux-gnu and
# qemu-user-static; without them it says so and ends well.
set -eu
cd "$(dirname "$0")/.."
cc=${ARM_CC:-aarch64-linux-gnu-gcc}
emulator=${ARM_EMULATOR:-qemu-aarch64-static}
for tool in "$cc" "$emulator"; do
    command -v "$tool" >/dev/null || { echo "skipped: no $tool"; exit 0; }
done
out=build/arm
mkdir -p "$out"
flags=(-std=c11 -D_GNU_SOURCE -O3 -g -ffp-contract=off -Wall -Wextra -Werror -Wshadow -Wconversion
       -Wpedantic -Wstrict-prototypes -Wmissing-prototypes -I. "-DREPO_DIR=\"$PWD\"")
objects=()
for source in kernels/*.c bench/roof.c; do
    object=$out/$(basename "$source" .c).o
    "$cc" "${flags[@]}" -c "$source" -o "$object"
    objects+=("$object")
done
for test in cpu_kernels ops attention; do
    "$cc" "${flags[@]}" -Wno-conversion -Itests/arm "tests/${test}_test.c" "${objects[@]}" -static \
        -lm -lpthread -o "$out/${test}_test"
    for cpu in max cortex-a53; do
        echo "== ${test}_test on $cpu"
        "$emulator" -cpu "$cpu" "$out/${test}_test"
    done
done
"$emulator" -cpu max "$out/cpu_kernels_test" | grep -q "table: neon" ||
    { echo "the table of NEON did not run"; exit 1; }

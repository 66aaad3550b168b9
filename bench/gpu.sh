#!/usr/bin/env bash
# Everything that is measured on a GPU, in one command of less than nine minutes: what the device
# gives, the kernels beside NVIDIA's library, whole steps of three model shapes with random weights,
# and the server over HTTP. The most important first, each result written as it comes.
#   bench/gpu.sh --out FOLDER [--seconds 520] [--models "llama-3-8b llama-2-7b tinyllama"]
#                [--parts "device steps serve"] (and "sweep") [--backend cuda] [--build build/cuda] [--commit NAME]
# FOLDER gets gpu.jsonl (a line per result), gpu.json and gpu.txt (all of them, and as tables), gpu.log.
# Models are made in $TMPDIR (32 GB for the three) and removed. See bench/README.md.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
out="" seconds=520 models="llama-3-8b llama-2-7b tinyllama" parts="device steps serve"
backend=cuda build=build/cuda streams=1,8,64,256 commit=""
usage() { sed -n '2,9s/^# \{0,1\}//p' "$0"; }
while [ $# -gt 0 ]; do
    case "$1" in
    --help) usage && exit 0 ;;
    --out | --seconds | --models | --parts | --backend | --build | --streams | --commit)
        [ $# -gt 1 ] || { echo "error: $1 without a value" >&2; exit 2; }
        printf -v "${1#--}" '%s' "$2"
        shift 2 ;;
    *) echo "error: unknown option $1" >&2; usage >&2; exit 2 ;;
    esac
done
[ -n "$out" ] || { echo "error: where to? --out FOLDER" >&2; exit 2; }
case "$seconds" in "" | *[!0-9]*) echo "error: --seconds $seconds" >&2; exit 2 ;; esac
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 1
cd "$root" || exit 1
export PATH="$PATH:/usr/local/cuda/bin"
lines=$out/gpu.jsonl log=$out/gpu.log
: >"$lines"
: >"$log"
scratch=$(mktemp -d)
making="" serving=""
# shellcheck disable=SC2317
clean() {
    for pid in $making $serving; do
        kill "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    rm -rf "$scratch"
}
trap clean EXIT

left() { echo $((seconds - SECONDS)); }
say() { printf '%4d s  %s\n' "$SECONDS" "$*"; }
note() { printf '{"part":"note","name":"%s"}\n' "$*" >>"$lines"; say "$*"; }
has() { case " $parts " in *" $1 "*) return 0 ;; esac; return 1; }
table() { python3 bench/gpu_table.py "$lines" --json "$out/gpu.json" --text "$out/gpu.txt"; }

# run NAME LIMIT COMMAND...: what it prints are results; a failure is noted and the rest goes on.
run() {
    local name=$1 limit=$2 rc
    shift 2
    say "$name, at most $limit s"
    echo "== $name: $*" >>"$log"
    timeout "$limit" "$@" >>"$lines" 2>>"$log"
    rc=$?
    [ "$rc" -eq 0 ] || note "$name ended with $rc after $SECONDS s"
    return "$rc"
}

programs="firstlight bench_steps bench_make_model bench_serve"
[ "$backend" = cuda ] && programs="$programs bench_gpu"
# shellcheck source=deploy/debs.sh
. deploy/debs.sh
if [ ! -f "$build/build.ninja" ]; then
    use_debs "$root" >>"$log" 2>&1 || note "the packages in .deb/ could not be unpacked"
    cmake --preset "${build##*/}" -DCMAKE_CUDA_ARCHITECTURES="$(gpu_arch)" "${debs[@]}" >>"$log" 2>&1
fi
have=()
for program in $programs; do # where there is no cuBLAS, there is no bench_gpu
    if ninja -C "$build" -t query "$program" >/dev/null 2>&1; then have+=("$program"); else note "$program is not built here"; fi
done
ninja -k 0 -C "$build" "${have[@]}" >>"$log" 2>&1 || { tail -30 "$log"; note "the build failed, in part"; }
say "built"
[ -n "$commit" ] || commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
printf '{"part":"about","commit":"%s","backend":"%s","time":"%s","cores":%d}\n' "$commit" "$backend" \
    "$(date -u +%FT%TZ)" "$(nproc)" >>"$lines"

# The models are written by the processor while the device is measured.
if has steps || has serve; then
    for model in $models; do
        "$build/bench_make_model" "$model" - "$scratch/$model.part" >>"$log" 2>&1 &&
            mv "$scratch/$model.part" "$scratch/$model"
    done &
    making=$!
fi
# A process each: an error of the device ends the one that made it. 11 of 24 parts of the time.
device() { # device PART SHARE
    local limit=$((seconds * $2 / 24))
    run "the device: $1" $((limit + 15)) "$build/bench_gpu" --part "$1" --seconds "$limit"
    # Each measures the roofs again; the first ones stand.
    awk '/"part":"(device|roof)"/ { k = $0; sub(/,"(us|sm)":.*/, "", k); if (seen[k]++) next } 1' \
        "$lines" >"$scratch/lines" && cp "$scratch/lines" "$lines"
    table >/dev/null
}
if [ "$backend" = cuda ] && has device; then
    nvidia-smi --query-gpu=name,clocks.sm,clocks.mem,temperature.gpu,power.draw,clocks_event_reasons.active \
        --format=csv >>"$log" 2>&1
    device roof 1
    device linear 5
    device gap 1
    device attention 3
    device rows 1
fi
# Takes minutes and is for choosing kernels alone: when asked for.
if [ "$backend" = cuda ] && has sweep; then
    run "variants of the products" 200 "$build/bench_gpu" --seconds 170 --part sweep
    table >/dev/null
fi
read_gbps=$(sed -n 's/.*"part":"roof","name":"read".*"gbps":\([0-9.]*\).*/\1/p' "$lines" | head -1)

wait_for() { # wait_for MODEL: until it is written
    while [ ! -d "$scratch/$1" ]; do
        kill -0 "$making" 2>/dev/null || [ -d "$scratch/$1" ] || return 1
        [ "$(left)" -gt 20 ] || return 1
        sleep 0.2
    done
}

steps() { # steps MODEL LIMIT
    run "$1, steps" "$2" "$build/bench_steps" --backend "$backend" --name "$1" --seconds $(($2 / 2)) \
        --read-gbps "${read_gbps:-0}" "$scratch/$1"
}

serve() { # serve MODEL LIMIT
    local port="" text=$scratch/serve.log until=$((SECONDS + $2)) n
    "$build/firstlight" serve --model "$scratch/$1" --backend "$backend" --port 0 --no-prefix-cache \
        --max-queue 1024 >"$text" 2>&1 &
    serving=$!
    while [ "$SECONDS" -lt "$until" ] && ! grep -q ' ready' "$text"; do
        kill -0 "$serving" 2>/dev/null || break
        sleep 0.2
    done
    port=$(sed -n 's|.*listening on http://127.0.0.1:||p' "$text" | head -1)
    if grep -q ' ready' "$text"; then
        for n in ${streams//,/ }; do
            [ "$SECONDS" -lt "$until" ] || break
            # A prompt of 512 at every answer of 128, and twice as many answers as streams.
            run "$1, $n streams" $((until - SECONDS + 5)) "$build/bench_serve" --json --port "$port" \
                --max-concurrency "$n" --num-prompts $((2 * n > 8 ? 2 * n : 8)) --random-input-len 512 \
                --random-output-len 128 --temperature 0 --extra-body '{"logit_bias":{"2":-100}}'
            tag "$1"
        done
    else
        note "$1: the server was not ready"
    fi
    kill "$serving" 2>/dev/null
    wait "$serving" 2>/dev/null
    serving=""
    cat "$text" >>"$log"
}

# The client's lines say neither part nor model.
tag() {
    sed -i "s/^{\"date\"/{\"part\":\"serve\",\"model\":\"$1\",\"date\"/" "$lines"
}

rest=0
for model in $models; do rest=$((rest + 1)); done
for model in $models; do
    share=$((($(left) - 5) / rest))
    rest=$((rest - 1))
    { has steps || has serve; } && [ "$share" -gt 10 ] || { note "no time for $model"; continue; }
    wait_for "$model" || { note "$model could not be made in time"; continue; }
    ends=$((SECONDS + share))
    has steps && steps "$model" $((share * 6 / 10))
    has serve && [ $((ends - SECONDS)) -gt 5 ] && serve "$model" $((ends - SECONDS))
    rm -rf "${scratch:?}/$model"
    table >/dev/null
done
say "done"
table

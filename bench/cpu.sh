#!/usr/bin/env bash
# Everything that is measured on a processor, in one command of less than 15 minutes on two idle cores: a
# model of random numbers in the shape of TinyLlama (1.1 B), each operation, whole steps, the server under
# load, and the time from exec to the first token; then one page of it all.
#   bench/cpu.sh --out FOLDER [--model tinyllama|demo|small|FOLDER] [--label TEXT] [--streams "1 4 8 16"]
#                [--seconds 25] [--rows 1,4,16,64,256,512] [--parts "ops steps serve load"] [--build build/cpu]
#                [--picture FILE.png]
# --seconds are those of each number of streams. FOLDER gets ops.jsonl, steps.jsonl, serve.jsonl, load.jsonl,
# page.html, tables.md and cpu.log; FILE.png is a picture of the page, if Chromium is
# installed. The model is made in $TMPDIR (3.4 GB) and removed. See bench/README.md.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
out="" model=tinyllama label="" streams="1 4 8 16" seconds=25 rows=1,4,16,64,256,512
parts="ops steps serve load" build=build/cpu picture=""
usage() { sed -n '2,10s/^# \{0,1\}//p' "$0"; }
fail() { echo "error: $*" >&2; exit 1; }
refuse() { echo "error: $*" >&2; exit 2; }
while [ $# -gt 0 ]; do
    case "$1" in
    --help | -h) usage && exit 0 ;;
    --out | --model | --label | --streams | --seconds | --rows | --parts | --build | --picture)
        [ $# -gt 1 ] || refuse "$1 without a value"
        printf -v "${1#--}" '%s' "$2"
        shift 2 ;;
    *) echo "error: unknown option $1" >&2; usage >&2; exit 2 ;;
    esac
done
[ -n "$out" ] || refuse "where to? --out FOLDER"
case "$seconds" in "" | *[!0-9]*) refuse "--seconds $seconds" ;; esac
case "$streams" in "" | *[!0-9\ ]*) refuse "--streams $streams" ;; esac
for part in $parts; do
    case "$part" in ops | steps | serve | load) ;; *) refuse "--parts $part" ;; esac
done
[ -d "$model" ] && model=$(cd "$model" && pwd)
[ -z "$picture" ] || picture=$(realpath -m "$picture")
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 1
cd "$root" || exit 1
log=$out/cpu.log
: >"$log"
scratch=$(mktemp -d)
serving=""
# shellcheck disable=SC2317
clean() {
    [ -n "$serving" ] && kill "$serving" 2>/dev/null && wait "$serving" 2>/dev/null
    rm -rf "$scratch"
}
trap clean EXIT

say() { printf '%4d s  %s\n' "$SECONDS" "$*"; }
has() { case " $parts " in *" $1 "*) return 0 ;; esac; return 1; }
# to FILE COMMAND...: what it prints are results; without them the rest would be half of a measurement.
to() {
    local file=$1
    shift
    echo "== $*" >>"$log"
    "$@" >"$file.part" 2>>"$log" || { tail -5 "$log" >&2; fail "$1 ended with $?; see $log"; }
    mv "$file.part" "$file"
}

[ -f "$build/build.ninja" ] || cmake --preset "${build##*/}" >>"$log" 2>&1 || fail "no build in $build; see $log"
ninja -C "$build" firstlight bench_ops bench_steps bench_serve bench_load bench_make_model >>"$log" 2>&1 ||
    { tail -30 "$log"; fail "the build failed"; }
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
machine=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -1)
name=${model##*/} label=${label:-firstlight $commit}
case "$(uptime | sed 's/.*average: *//; s/\..*//')" in
0 | 1) ;;
*) say "note: this machine is busy ($(uptime | sed 's/.*\(load\)/\1/')); figures will be those of a busy machine" ;;
esac

if [ -d "$model" ]; then
    path=$model
elif [ "$model" = demo ]; then
    path=$root/models/demo
else
    say "making the model"
    if ! "$build/bench_make_model" "$model" models/demo "$scratch/bf16" >>"$log" 2>&1 ||
        ! "$build/firstlight" convert "$scratch/bf16" "$scratch/$model" >>"$log" 2>&1; then
        tail -5 "$log" >&2
        fail "the model could not be made; see $log"
    fi
    rm -rf "$scratch/bf16"
    path=$scratch/$model
fi
about() { printf '{"part":"about","machine":"%s","cores":%d,"commit":"%s","time":"%s"}\n' \
    "${machine//[\"\\]/}" "$(nproc)" "$commit" "$(date -u +%FT%TZ)"; }
files=()

if has ops; then
    say "operations"
    case "$name" in demo | tinyllama | llama-2-7b | llama-3-8b) shape=$name ;; *) shape=tinyllama ;; esac
    to "$out/ops.jsonl" "$build/bench_ops" --json --only "$shape." --rows "$rows" --seconds 0.1
    { about; cat "$out/ops.jsonl"; } >"$out/ops.part" && mv "$out/ops.part" "$out/ops.jsonl"
    files+=("$label=$out/ops.jsonl")
fi
if has steps; then
    say "whole steps"
    read_gbps=$(sed -n 's/.*"part":"roof","name":"read","gbps":\([0-9.]*\).*/\1/p' "$out/ops.jsonl" 2>/dev/null | tail -1)
    to "$out/steps.jsonl" "$build/bench_steps" --backend cpu --name "$name" --seconds 60 --batches 1,2,4,8,16,32 \
        --prompts 32,128,512 --read-gbps "${read_gbps:-0}" "$path"
    files+=("$label=$out/steps.jsonl")
fi

if has serve; then
    text=$scratch/serve.log
    "$build/firstlight" serve --model "$path" --backend cpu --port 0 --no-prefix-cache >"$text" 2>&1 &
    serving=$!
    for _ in $(seq 600); do
        grep -q ' ready' "$text" && break
        kill -0 "$serving" 2>/dev/null || break
        sleep 0.1
    done
    grep -q ' ready' "$text" || { tail -5 "$text" >&2; fail "the server did not start"; }
    port=$(sed -n 's|.*listening on http://127.0.0.1:||p' "$text" | head -1)
    rm -f "$out/serve.jsonl"
    for n in $streams; do
        say "$n streams"
        to "$scratch/table" "$build/bench_serve" --backend openai-chat --base-url "http://127.0.0.1:$port" \
            --dataset-name random --random-input-len 64 --random-output-len 64 --ignore-eos --temperature 0 \
            --max-concurrency "$n" --duration "$seconds" --metric-percentiles 50,90,99 --disable-tqdm \
            --save-result --save-detailed --append-result --result-dir "$out" --result-filename serve.jsonl \
            --label "$label" --metadata "machine=$machine" "commit=$commit"
        cat "$scratch/table" >>"$log"
    done
    kill "$serving" && wait "$serving" 2>/dev/null
    serving=""
    files+=("$label=$out/serve.jsonl")
fi
if has load; then
    say "from exec to the first token"
    to "$out/load.jsonl" "$build/bench_load" --json --runs 9 "$build/firstlight" "$path"
    files+=("$label=$out/load.jsonl")
fi

bench/report.py "${files[@]}" --title "Firstlight on ${machine:-a processor}" --out "$out/page.html" \
    ${picture:+--picture "$picture"} || fail "no page"
bench/report.py "${files[@]}" --markdown >"$out/tables.md" || fail "no tables"
say "done: $out/page.html, $out/tables.md"

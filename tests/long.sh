# shellcheck shell=bash
# The long suites, sourced by tests/run.sh --all: layout, clang-tidy, a build with clang, fuzzing,
# real clients. Each is a suite whose log carries a line in cmocka's form.

fuzz_runs=${FUZZ_RUNS:-1000000}

verdict() { # verdict STATUS: the line that count() reads
    if [ "$1" -eq 0 ]; then
        echo "[  PASSED  ] 1 test(s)."
    else
        echo "[  FAILED  ] 1 test(s)."
    fi
    return "$1"
}

# Layout differs between versions of clang-format; the project's is 14.
layout() {
    local status=0
    if ! clang-format --version | grep -q 'version 14'; then
        echo "skipped: clang-format 14 is not here"
        return
    fi
    (cd "$root" && git ls-files '*.c' '*.h' '*.cu' '*.cuh' | grep -v unicode_table |
        xargs clang-format --dry-run -Werror) || status=$?
    verdict "$status"
}

lint() {
    local status=0
    (cd "$root" && git ls-files 'kernels/*.c' 'models/*.c' 'scheduler/*.c' 'server/*.c' |
        xargs -P "$(nproc)" -n 4 clang-tidy --quiet -p build/cpu) || status=$?
    verdict "$status"
}

# From the corpus, FUZZ_RUNS executions, none over a second or 256 MB; finds are kept for the
# corpus. ASan keeps little of what was freed and short stacks of who did it: with its defaults it
# would need more memory than what it watches, and most of the time. The second is one of the
# wall: an input that took longer is tried alone, since a busy machine may have stood still.
fuzz() ( # fuzz NAME
    local status=0 late program="$root/build/fuzz/fuzz_$1" scratch="$root/build/fuzz/found_$1"
    local bounds=(-max_len=4096 -timeout=1 -rss_limit_mb=256)
    export ASAN_OPTIONS=quarantine_size_mb=4:thread_local_quarantine_size_kb=64:malloc_context_size=4
    mkdir -p "$scratch"
    cd "$scratch" || return 1
    for _ in 1 2 3; do
        status=0
        "$program" -runs="$fuzz_runs" "${bounds[@]}" -print_final_stats=1 "$scratch" \
            "$root/tests/corpus/$1" || status=$?
        late=$(find . -name 'timeout-*' | head -1)
        [ -n "$late" ] && "$program" "${bounds[@]}" "$late" || break
        rm "$late"
    done
    verdict "$status"
)

install_missing clang clang-format clang-tidy "libclang-rt-$(clang -dumpversion 2>/dev/null | cut -d. -f1 || echo 14)-dev"
suite "layout" layout
suite "clang-tidy" lint

# The kernels of another processor: skipped where its compiler and emulator are not.
arm() {
    local status=0
    "$root/tests/arm.sh" || status=$?
    verdict "$status"
}
install_missing gcc-aarch64-linux-gnu qemu-user-static
suite "aarch64" arm

say "building: clang, no warning"
if (build clang all); then
    suite "tests (clang)" in_preset clang -L unit
else
    failed=$((failed + 1))
fi

say "building: fuzz"
build fuzz fuzzers
for fuzzer in "$root"/build/fuzz/fuzz_*; do
    [ -x "$fuzzer" ] && [ -f "$fuzzer" ] || continue
    name=${fuzzer##*/fuzz_}
    suite "fuzz $name, $fuzz_runs runs" fuzz "$name"
done

# with_server COMMAND...: runs it with the demo model's server at $server_url.
server_url=http://127.0.0.1:8431
server_options=()
with_server() {
    local status=0 log="$root/build/server.log"
    "$root/build/cpu/firstlight" serve --port 8431 "${server_options[@]}" 2>"$log" &
    local server=$!
    for _ in $(seq 100); do
        grep -q ready "$log" && break
        sleep 0.1
    done
    "$@" || status=$?
    kill "$server"
    wait "$server" || status=$?
    return "$status"
}

# npm_folder NAME FROM: a copy under build/ with its packages. The registry of npm must be
# reachable; nothing else of this script leaves the machine.
npm_folder() {
    mkdir -p "$root/build/$1"
    cp -r "$root/$2/." "$root/build/$1"
    (cd "$root/build/$1" && npm install --silent --no-audit --no-fund >&2)
}

clients() {
    npm_folder clients tests/clients || { echo "skipped: npm cannot install the clients"; return; }
    (cd "$root/build/clients" && with_server node clients.mjs "$server_url")
}

workers_clients() {
    npm_folder clients tests/clients || { echo "skipped: npm cannot install the clients"; return; }
    (cd "$root/build/clients" && with_server node workers.mjs "$server_url")
}

worker() {
    npm_folder worker deploy/worker || { echo "skipped: npm cannot install wrangler"; return; }
    (cd "$root/build/worker" && npm run --silent check && npm run --silent build >&2 &&
        with_server node "$root/tests/clients/worker.mjs" "$server_url" .)
}

# The templates of tests/templates and the rows of language.json, asked of the originals.
templates() {
    local status=0 scratch="$root/build/oracle"
    mkdir -p "$scratch"
    python3 "$root/tests/oracle/jinja.py" || status=$?
    if ! (cd "$scratch" && npm install --silent --no-audit --no-fund @huggingface/jinja >&2); then
        echo "skipped: npm cannot install @huggingface/jinja"
    else
        (cd "$scratch" && node "$root/tests/oracle/jinja.mjs") || status=$?
    fi
    verdict "$status"
}

command -v npm >/dev/null || install_missing npm
install_missing python3-jinja2
suite "templates (Python's Jinja, @huggingface/jinja)" templates
suite "clients (OpenAI, Cloudflare, workerd)" clients
suite "the Worker of deploy/worker" worker
suite "clients of Workers AI" workers_clients

# A page of an allowed site and one of another, in a real browser.
browser() {
    npm_folder clients tests/clients || { echo "skipped: npm cannot install the clients"; return; }
    (cd "$root/build/clients" && server_options=(--cors-origin http://127.0.0.1:18080) &&
        with_server node browser.mjs "$server_url" "$(command -v chromium)" 18080)
}

command -v chromium >/dev/null || install_missing chromium
suite "browser (EventSource, fetch)" browser

# Whether the independent implementations still say what tests/data keeps of them.
oracle() {
    local status=0 scratch="$root/build/oracle"
    mkdir -p "$scratch"
    cp "$root"/tests/oracle/* "$scratch"
    if ! (cd "$scratch" && npm install --silent --no-audit --no-fund >&2); then
        echo "skipped: npm cannot install the oracles"
        return
    fi
    (cd "$scratch" && node tokenizers.mjs "$root/tests/data/tokenizers.json") || status=$?
    return "$status"
}

suite "oracle (tokenizers)" oracle

build tsan sampling_simt
suite "emulated picks (tsan)" in_preset tsan -L 'long race'
suite "bugs planted in the kernels" python3 "$root/tests/plants.py"

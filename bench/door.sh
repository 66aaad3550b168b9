#!/usr/bin/env bash
# What the front door costs, side by side with nginx in the same minutes: requests of /health, one-token
# completions, many slow streams, idle connections. Needs nginx and wrk (apt-get install nginx-light wrk).
#   bench/door.sh [--seconds 5] [--rounds 3] [--stream-seconds 20] [--build build/cpu]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
seconds=5 rounds=3 stream_seconds=20 build=build/cpu
while [ $# -gt 0 ]; do
    case "$1" in
    --help | -h) sed -n '2,4s/^# \{0,1\}//p' "$0" && exit 0 ;;
    --seconds) seconds=$2 ;;
    --rounds) rounds=$2 ;;
    --stream-seconds) stream_seconds=$2 ;;
    --build) build=$2 ;;
    *) echo "unknown option $1" >&2 && exit 2 ;;
    esac
    shift 2
done
door=$root/$build/bench_door
for tool in "$door" nginx wrk curl; do
    command -v "$tool" >/dev/null || { echo "$tool is missing (ninja -C $build bench; apt-get install nginx-light wrk curl)" >&2; exit 1; }
done
scratch=$(mktemp -d)
pids=()
# shellcheck disable=SC2317
clean() {
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || continue
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$scratch"
}
trap clean EXIT

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

start_door() { # start_door NAME OPTIONS...: its port is in $port, its process in $pid
    local log=$scratch/$1.log
    shift
    "$door" serve "$@" --port 0 --max-queue 4096 2>"$log" &
    pid=$!
    pids+=("$pid")
    for _ in $(seq 200); do
        grep -q ' ready' "$log" && break
        sleep 0.05
    done
    port=$(sed -n 's|.*listening on http://127.0.0.1:||p' "$log" | head -1)
}

# A file as large as what /health says.
start_door now --max-seqs 256
now_port=$port now_pid=$pid
mkdir "$scratch/www"
curl -s "http://127.0.0.1:$now_port/health" >"$scratch/www/health"
chmod -R a+rX "$scratch"
nginx_port=$(free_port)
cat >"$scratch/nginx.conf" <<CONF
daemon off;
worker_processes 1;
pid $scratch/nginx.pid;
error_log $scratch/nginx.err;
worker_rlimit_nofile 20000;
events { worker_connections 16384; }
http {
    access_log off;
    keepalive_requests 1000000000;
    default_type application/json;
    open_file_cache max=16;
    client_body_temp_path $scratch/a; proxy_temp_path $scratch/b; fastcgi_temp_path $scratch/c;
    uwsgi_temp_path $scratch/d; scgi_temp_path $scratch/e;
    server { listen 127.0.0.1:$nginx_port reuseport; root $scratch/www; }
}
CONF
nginx -c "$scratch/nginx.conf" 2>"$scratch/nginx.out" &
pids+=($!)
sleep 0.5

cat >"$scratch/one.lua" <<'LUA'
wrk.method = "POST"
wrk.body = '{"prompt":"Hello","max_tokens":1,"temperature":0}'
LUA

load() { # load NAME URL [OPTIONS]
    local name=$1 url=$2 out
    shift 2
    out=$(wrk -t1 -c64 -d"${seconds}s" --latency "$@" "$url")
    printf '%-24s %10s req/s   p50 %-9s p99 %-9s %s\n' "$name" \
        "$(awk '/Requests\/sec/ {print $2}' <<<"$out")" "$(awk '$1 == "50%" {print $2}' <<<"$out")" \
        "$(awk '$1 == "99%" {print $2}' <<<"$out")" "$(grep -E 'Non-2xx|Socket errors' <<<"$out" || true)"
}

nproc | sed 's/^/cores: /'
for round in $(seq "$rounds"); do
    echo "round $round"
    load "nginx, static file" "http://127.0.0.1:$nginx_port/health"
    load "firstlight /health" "http://127.0.0.1:$now_port/health"
    load "one-token completions" "http://127.0.0.1:$now_port/v1/completions" -s "$scratch/one.lua"
done
echo "streams"
start_door paced --pace-ms 50 --max-seqs 1024
before=$(awk '{print $14 + $15}' "/proc/$pid/stat")
"$door" streams "$port" 1000 "$stream_seconds" 50
after=$(awk '{print $14 + $15}' "/proc/$pid/stat")
echo "server: $(((after - before) * 100 / $(getconf CLK_TCK) / stream_seconds)) % of one core"
echo "idle"
"$door" idle "$now_port" 10000 "$now_pid"

#!/usr/bin/env python3
"""The front door of the real program: TLS, keys, sockets of every kind, other sites, the log, the end.

Aim: what stands between the open internet and the engine does what README says, with other people's
clients (Python's ssl, openssl s_client) at the other end, and every server ends with status 0.
Negative space: what goes wrong inside one connection is tls_test's and conn_test's.

    tests/door.py --binary build/cpu/firstlight [--only NAME]
"""
import argparse
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import time
import traceback
import warnings

import e2e
from e2e import CHAT, COUNT, FRANCE, Server, events

CASES = []
SCRATCH = pathlib.Path(tempfile.mkdtemp(prefix="door-"))
CERT, KEY = SCRATCH / "cert.pem", SCRATCH / "key.pem"
BINARY = None


def case(function):
    CASES.append(function)
    return function


def make_certificate(name="localhost"):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", KEY, "-out", CERT,
                    "-days", "2", "-subj", f"/CN={name}", "-addext",
                    "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
    KEY.chmod(0o600)


def trusting():
    return ssl.create_default_context(cafile=str(CERT))


class Plain(Server):
    """A server that speaks plain HTTP on one port, whatever else it listens on."""

    def __init__(self, *arguments):
        super().__init__(BINARY, *arguments)

    def ends(self, **how):
        self.stop(**how)


class Shut:
    """A server that is asked over something else than plain TCP: started, waited for, not asked."""

    def __init__(self, *arguments, limit=None):
        def few_files():
            if limit:
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        self.log = tempfile.TemporaryFile("a+")  # both ends share one place in it
        self.process = subprocess.Popen([BINARY, "serve", *arguments], stdout=self.log,
                                        stderr=self.log, text=True, preexec_fn=few_files)
        deadline = time.monotonic() + e2e.READY_S
        while " ready: " not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)

    said = Server.said
    stop = Server.stop
    until = Server.until

    def port(self, scheme, nth=0):
        found = [line.rsplit(":", 1)[1] for line in self.said().split("\n")
                 if f"listening on {scheme}://" in line]
        return int(found[nth])


def ask(sock, request):
    sock.sendall(request)
    return read_answer(sock)


def read_answer(sock):
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            return data
        data += piece
    head, body = data.split(b"\r\n\r\n", 1)
    length = [int(line.split(b":")[1]) for line in head.split(b"\r\n")
              if line.lower().startswith(b"content-length:")]
    while length and len(body) < length[0]:
        piece = sock.recv(65536)
        assert piece
        body += piece
    return head + b"\r\n\r\n" + body


def read_end(sock):
    data = b""
    while True:
        try:
            piece = sock.recv(65536)
        except ConnectionResetError:
            return data
        if not piece:
            return data
        data += piece


def get(path, **headers):
    lines = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in headers.items())
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode()


def post(path, body, **headers):
    data = json.dumps(body).encode()
    lines = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in headers.items())
    return (f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(data)}\r\n{lines}\r\n".encode()
            + data)


def status_of(answer):
    return int(answer.split(b" ", 2)[1])


def fails_to_start(*arguments, says):
    r = subprocess.run([BINARY, "serve", *arguments], capture_output=True, text=True, timeout=60)
    assert r.returncode in (1, 2) and says in r.stderr, (r.returncode, r.stderr)
    lines = [line for line in r.stderr.split("\n") if line and " info " not in line]
    assert len(lines) == 1, r.stderr


# ---- TLS ---------------------------------------------------------------------------------------

def tls_server(*more):
    return Shut("--listen", "127.0.0.1:0", "--tls-cert", str(CERT), "--tls-key", str(KEY), *more)


def tls_connect(s, context=None, **how):
    raw = socket.create_connection(("127.0.0.1", s.port("https")), 20)
    return (context or trusting()).wrap_socket(raw, server_hostname="localhost", **how)


@case
def tls_serves():
    s = tls_server()
    with tls_connect(s) as c:
        assert c.version() == "TLSv1.3", c.version()
        assert status_of(ask(c, get("/health"))) == 200
        answer = ask(c, post(CHAT, FRANCE | {"max_tokens": 8}))
        assert status_of(answer) == 200 and b"Paris" in answer or b"capital" in answer, answer
        c.sendall(post(CHAT, COUNT | {"stream": True, "max_tokens": 50}, Connection="close"))
        streamed = read_end(c)
        assert streamed.endswith(b"0\r\n\r\n") and b"data: [DONE]" in streamed
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = trusting()
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2", "http/1.1"])
        with tls_connect(s, context) as c:
            assert c.selected_alpn_protocol() == "http/1.1"
            assert status_of(ask(c, get("/health"))) == 200
    s.stop()


@case
def tls_first_request_does_not_wait():
    """A client that gathers small writes sends its request when its last write is acknowledged."""
    s = tls_server()
    took = []
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", s.port("https")), 20) as raw:
            c = trusting().wrap_socket(raw, server_hostname="localhost")
            started = time.monotonic()
            assert status_of(ask(c, get("/health"))) == 200
            took.append(time.monotonic() - started)
            c.close()
    assert min(took) < 0.025, took
    s.stop()


@case
def tls_refuses():
    s = tls_server()
    port = s.port("https")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    try:
        warnings.simplefilter("ignore", DeprecationWarning)
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        tls_connect(s, old)
        raise AssertionError("TLS 1.1 was taken")
    except (ssl.SSLError, ValueError, OSError):
        pass
    only_h2 = trusting()
    only_h2.set_alpn_protocols(["h2"])
    try:
        tls_connect(s, only_h2)
        raise AssertionError("h2 alone was taken")
    except (ssl.SSLError, OSError):
        pass
    with socket.create_connection(("127.0.0.1", port), 10) as c:
        answer = ask(c, get("/health"))
        assert status_of(answer) == 400 and b"this port speaks TLS" in answer, answer
    with tls_connect(s) as c:
        assert status_of(ask(c, get("/health"))) == 200
    s.stop()


@case
def tls_by_openssl():
    """Another client, with its own opinion of what is broken."""
    s = tls_server()
    r = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{s.port('https')}", "-CAfile",
                        CERT, "-verify_return_error", "-quiet"],
                       input=b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                       capture_output=True, timeout=20)
    assert b"200 OK" in r.stdout and b'{"status":"ok"}' in r.stdout, r
    r = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{s.port('https')}",
                        "-tls1_2", "-CAfile", CERT], input=b"R\n", capture_output=True, timeout=20)
    assert b"no renegotiation" in r.stderr or r.returncode != 0, r.stderr
    assert b"No client certificate" in r.stdout
    r = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{s.port('https')}",
                        "-reconnect", "-CAfile", CERT], input=b"", capture_output=True, timeout=30)
    assert b"Reused" not in r.stdout, "a session outlived its connection"
    s.stop()


@case
def tls_handshake_is_timed():
    s = tls_server("--handshake-s", "0.3")
    with socket.create_connection(("127.0.0.1", s.port("https")), 10) as c:
        started = time.monotonic()
        c.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert read_end(c) == b""
        assert 0.2 < time.monotonic() - started < 3
    with tls_connect(s) as c:
        time.sleep(0.6)
        assert status_of(ask(c, get("/health"))) == 200, "an idle connection is no handshake"
    s.stop()


@case
def tls_gone_clients_free_their_place():
    s = tls_server()
    for way in ("notify", "close", "reset"):
        c = tls_connect(s)
        c.sendall(post(CHAT, COUNT | {"stream": True, "max_tokens": 900, "ignore_eos": True}))
        assert c.recv(100)
        if way == "notify":
            c.setblocking(False)
            try:
                c.unwrap()
            except ssl.SSLError:
                pass
        elif way == "reset":
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        c.close()

        def idle():
            with tls_connect(s) as m:
                m.sendall(get("/metrics", Connection="close"))
                return b'vllm:num_requests_running{' in (text := read_end(m)) and all(
                    line.endswith(b" 0") for line in text.split(b"\n")
                    if line.startswith(b"vllm:num_requests_running"))
        s.until(f"the place is free after {way}", idle)
    s.stop()


@case
def tls_certificate_is_read_again():
    s = tls_server()
    old = ssl.get_server_certificate(("127.0.0.1", s.port("https")))
    kept = tls_connect(s)
    make_certificate("other")
    s.process.send_signal(signal.SIGHUP)
    s.until("the new certificate",
            lambda: ssl.get_server_certificate(("127.0.0.1", s.port("https"))) != old)
    assert status_of(ask(kept, get("/health"))) == 200, "the old connection goes on"
    kept.close()
    good = CERT.read_bytes()
    CERT.write_text("nonsense")
    s.process.send_signal(signal.SIGHUP)
    s.until("a word about it", lambda: "the old certificate stays" in s.said())
    CERT.write_bytes(good)
    with tls_connect(s) as c:
        assert status_of(ask(c, get("/health"))) == 200
    s.stop()


@case
def tls_wrong_files():
    fails_to_start("--tls-cert", str(CERT), "--tls-key", "/none", says="/none")
    fails_to_start("--tls-cert", "/none", "--tls-key", str(KEY), says="/none")
    fails_to_start("--tls-cert", str(KEY), "--tls-key", str(KEY), says="certificate")
    fails_to_start("--tls-cert", str(CERT), says="go together")
    KEY.chmod(0o622)
    fails_to_start("--tls-cert", str(CERT), "--tls-key", str(KEY), says="written by others")
    KEY.chmod(0o600)


# ---- sockets -----------------------------------------------------------------------------------

def unix_connect(path):
    c = socket.socket(socket.AF_UNIX)
    c.settimeout(20)
    c.connect(str(path))
    return c


@case
def several_listeners():
    path = SCRATCH / "s.sock"
    listens = ["--listen", "127.0.0.1:0", "--listen", f"unix:{path}", "--unix-mode", "660"]
    six = socket.has_ipv6
    if six:
        listens += ["--listen", "[::1]:0"]
    s = Shut(*listens)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660 and path.is_socket()
    socks = [socket.create_connection(("127.0.0.1", s.port("http")), 20), unix_connect(path)]
    if six:
        socks.append(socket.create_connection(("::1", s.port("http", 1)), 20))
    for c in socks:
        assert status_of(ask(c, get("/health"))) == 200
        c.sendall(post(CHAT, COUNT | {"stream": True, "max_tokens": 30}, Connection="close"))
        assert b"data: [DONE]" in read_end(c)
        c.close()
    s.stop()
    assert not path.exists(), "it goes at the end"


@case
def unix_sockets_of_others():
    path = SCRATCH / "s.sock"
    here = ("--listen", f"unix:{path}")
    path.write_text("a file")
    fails_to_start(*here, says="no socket")
    assert path.read_text() == "a file"
    path.unlink()
    fails_to_start("--listen", f"unix:{SCRATCH}/none/s.sock", says="No such file")
    first = Shut(*here)
    fails_to_start(*here, says="another server listens")
    assert status_of(ask(unix_connect(path), get("/health"))) == 200
    first.process.kill()
    first.process.wait()
    assert path.exists(), "a killed server leaves it"
    second = Shut(*here)
    assert status_of(ask(unix_connect(path), get("/health"))) == 200
    # Somebody else has taken the path meanwhile: it is not ours to remove.
    path.unlink()
    path.write_text("theirs")
    second.stop()
    assert path.read_text() == "theirs"
    path.unlink()


@case
def few_descriptors():
    """64 of them: those who are in are served, the others are turned away, and later they may come."""
    s = Shut("--listen", "127.0.0.1:0", limit=64)
    port = s.port("http")
    kept = socket.create_connection(("127.0.0.1", port), 20)
    assert status_of(ask(kept, get("/health"))) == 200
    crowd = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(200)]
    time.sleep(0.2)
    answer = ask(kept, post(CHAT, FRANCE | {"max_tokens": 3}))
    assert status_of(answer) == 200, answer
    for c in crowd:
        c.close()

    def served():
        with socket.create_connection(("127.0.0.1", port), 20) as c:
            try:
                return status_of(ask(c, get("/health"))) == 200
            except (OSError, IndexError):
                return False
    s.until("a newcomer is served", served)
    kept.close()
    s.stop()


@case
def open_addresses_need_a_key():
    fails_to_start("--host", "0.0.0.0", "--port", "0", says="--insecure")
    fails_to_start("--listen", "[::]:0", says="--insecure")
    fails_to_start("--port", "0", "--api-keys-file", "/none", says="/none")


# ---- keys --------------------------------------------------------------------------------------

@case
def keys():
    path = SCRATCH / "keys"
    path.write_text("# ours\nfirst-key alice\nsecond-key\n")
    path.chmod(0o600)
    log = SCRATCH / "keys.log"
    s = Plain("--api-keys-file", str(path), "--api-key", "third-key", "--access-log", "json",
              "--access-log-file", str(log))

    def code(path="/v1/models", **headers):
        return s.get(path, {k.replace("_", "-"): v for k, v in headers.items()})[0]

    assert code("/health") == 200 and code("/metrics") == 200, "open to everybody"
    assert code() == 401
    for key in ("first-key", "second-key", "third-key"):
        assert code(Authorization=f"Bearer {key}") == 200
        assert code(x_api_key=key) == 200 and code(X_Auth_Key=key) == 200
    for wrong in ("", "first-ke", "first-keyy", "alice", "# ours", "first-key alice"):
        assert code(Authorization=f"Bearer {wrong}") == 401, wrong
    assert code(Authorization="Basic first-key") == 401
    path.write_text("fourth-key dora\n")
    s.process.send_signal(signal.SIGHUP)
    s.until("the new key", lambda: code(Authorization="Bearer fourth-key") == 200)
    assert code(Authorization="Bearer first-key") == 401
    assert code(Authorization="Bearer third-key") == 200, "of the command line"
    for broken in ("", "a b c\n", "caf\u00e9\n"):
        path.write_text(broken)
        before = s.said().count("the old keys stay")
        s.process.send_signal(signal.SIGHUP)
        s.until("one line", lambda: s.said().count("the old keys stay") == before + 1)
        assert code(Authorization="Bearer fourth-key") == 200
    path.chmod(0o666)
    before = s.said().count("the old keys stay")
    s.process.send_signal(signal.SIGHUP)
    s.until("one line", lambda: s.said().count("the old keys stay") == before + 1)
    s.ends()
    text = log.read_text() + s.said()
    assert "-key" not in text.replace("--api-key", ""), "no key in any log"
    assert '"key":"alice"' in text and '"key":"dora"' in text


@case
def keys_share_no_cache():
    """The same prompt under two keys: neither is told by speed or usage what the other asked."""
    path = SCRATCH / "two"
    path.write_text("key-a a\nkey-b b\n")
    path.chmod(0o600)
    s = Plain("--api-keys-file", str(path))
    body = {"messages": [{"role": "system", "content": "You are a helpful assistant. " * 12},
                         *FRANCE["messages"]], "temperature": 0, "max_tokens": 4}

    def cached(key):
        status, raw, _ = s.post(CHAT, body, {"Authorization": f"Bearer {key}"})
        assert status == 200, raw
        usage = json.loads(raw)["usage"]
        return (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)

    assert cached("key-a") == 0 and cached("key-a") > 0
    assert cached("key-b") == 0 and cached("key-b") > 0
    s.ends()


# ---- pages of other sites ------------------------------------------------------------------------

@case
def cors_off():
    s = Plain()
    c = s.connect()
    c.request("OPTIONS", CHAT, headers={"Origin": "https://a.example",
                                        "Access-Control-Request-Method": "POST"})
    r = c.getresponse()
    r.read()
    assert r.status == 405 and not r.getheader("Access-Control-Allow-Origin")
    _, _, r = s.get("/health", {"Origin": "https://a.example"})
    assert not r.getheader("Access-Control-Allow-Origin") and not r.getheader("Vary")
    s.ends()


@case
def cors():
    s = Plain("--cors-origin", "https://a.example", "--cors-origin", "http://b:3000", "--api-key", "k")
    wanted = "authorization,content-type,x-stainless-arch,x-stainless-lang,x-stainless-os"
    c = s.connect()
    for path in (CHAT, f"/client/v4/accounts/x/ai/run/{e2e.ALIAS}", "/v1/nothing"):
        c.request("OPTIONS", path, headers={
            "Origin": "https://a.example", "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": wanted})
        r = c.getresponse()
        assert r.read() == b"" and r.status == 204, (path, r.status)
        assert r.getheader("Access-Control-Allow-Origin") == "https://a.example"
        assert r.getheader("Access-Control-Allow-Headers") == wanted
        assert "POST" in r.getheader("Access-Control-Allow-Methods")
        assert r.getheader("Access-Control-Max-Age") and not r.getheader("Content-Length")
        assert not r.getheader("Access-Control-Allow-Credentials")
        assert "Origin" in r.getheader("Vary")
    key = {"Authorization": "Bearer k"}
    for body, code in ((FRANCE | {"max_tokens": 3}, 200), (FRANCE | {"top_p": 9}, 400),
                       (FRANCE | {"max_tokens": 3, "stream": True}, 200)):
        status, _, r = s.post(CHAT, body, key | {"Origin": "http://b:3000"})
        assert status == code and r.getheader("Access-Control-Allow-Origin") == "http://b:3000"
        assert "X-Request-Id" in r.getheader("Access-Control-Expose-Headers")
    status, _, r = s.post(CHAT, FRANCE, {"Origin": "http://b:3000"})
    assert status == 401 and r.getheader("Access-Control-Allow-Origin"), "errors are read, too"
    with socket.create_connection(("127.0.0.1", s.port), 20) as raw:
        answer = ask(raw, f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nOrigin: http://b:3000\r\n"
                          f"Content-Length: {1 << 30}\r\n\r\n".encode())
        assert status_of(answer) == 413, answer
        assert b"Access-Control-Allow-Origin: http://b:3000\r\n" in answer, answer
    _, _, r = s.get("/health", {"Origin": "https://evil.example"})
    assert not r.getheader("Access-Control-Allow-Origin") and r.getheader("Vary") == "Origin"
    c.request("OPTIONS", CHAT, headers={"Origin": "https://evil.example",
                                        "Access-Control-Request-Method": "POST"})
    r = c.getresponse()
    r.read()
    assert r.status == 400 and not r.getheader("Access-Control-Allow-Origin")
    s.ends()
    s = Plain("--cors-origin", "*")
    _, _, r = s.get("/health", {"Origin": "https://whoever.example"})
    assert r.getheader("Access-Control-Allow-Origin") == "*"
    s.ends()
    fails_to_start("--cors-origin", "a.example", "--port", "0", says="--cors-origin wants")


# ---- HTTP as clients send it -----------------------------------------------------------------------

@case
def requests_of_every_form():
    s = Plain()
    body = json.dumps(FRANCE | {"max_tokens": 3}).encode()
    for kind in ("text/plain", "application/octet-stream", "multipart/form-data", "", None):
        status, raw, _ = s.post(CHAT, body, {} if kind is None else {"Content-Type": kind})
        assert status == 200, (kind, raw)
    c = s.connect()
    c.request("HEAD", "/health")
    r = c.getresponse()
    assert r.status == 200 and r.read() == b"" and int(r.getheader("Content-Length")) > 0
    c.request("HEAD", "/v1/nothing")
    r = c.getresponse()
    assert r.status == 404 and r.read() == b""
    c.request("GET", "/health")
    assert c.getresponse().read() == b'{"status":"ok"}\n', "the connection is in step"
    with socket.create_connection(("127.0.0.1", s.port), 20) as c:
        c.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                  f"Content-Length: {len(body)}\r\n\r\n".encode())
        assert c.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert status_of(ask(c, body)) == 200
        # Too large: refused before it is sent.
        answer = ask(c, f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                        f"Content-Length: {1 << 30}\r\n\r\n".encode())
        assert status_of(answer) == 413, answer
    with socket.create_connection(("127.0.0.1", s.port), 20) as c:
        c.sendall(f"POST {CHAT} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = read_end(c)
        assert status_of(answer) == 200 and b"chunked" not in answer
    _, _, r = s.post(CHAT, FRANCE | {"max_tokens": 3, "stream": True})
    assert r.getheader("X-Accel-Buffering") == "no" and r.getheader("Cache-Control") == "no-cache"
    s.ends()


@case
def requests_in_a_query():
    """What EventSource can send, against the same request as a body."""
    s = Plain()
    rest = f"/client/v4/accounts/x/ai/run/{e2e.ALIAS}"
    prompt = "What is the capital of Spain?"
    _, raw, _ = s.post(rest, {"prompt": prompt, "temperature": 0, "max_tokens": 20})
    want = json.loads(raw)["result"]["response"]
    for path in (f"{rest}?", f"/run?model={e2e.ALIAS}&"):
        query = f"{path}prompt={prompt.replace(' ', '+')}&temperature=0&max_tokens=20"
        status, raw, r = s.get(query + "&stream=true", {"Accept": "text/event-stream"})
        assert status == 200 and r.getheader("Content-Type") == "text/event-stream"
        assert "".join(e["response"] for e in events(raw)) == want
        status, raw, _ = s.get(query)
        body = json.loads(raw)
        assert status == 200 and (body.get("result") or body)["response"] == want
        for wrong in ("&temperature=9", "&prompt=x", "&x=%zz", "&top_k=a"):
            assert s.get(query + wrong)[0] == 400, wrong
    assert s.get(f"/run?prompt=x")[0] == 400
    assert s.get(f"{rest}?prompt={'x' * 3000}")[0] == 414
    c = s.connect()
    c.request("HEAD", f"{rest}?prompt=x")
    assert c.getresponse().status in (400, 405), "nothing is computed for nobody"
    s.ends()


@case
def limits_of_a_connection():
    s = Plain("--conn-requests", "3", "--max-conns", "16", "--head-s", "0.5", "--idle-s", "1",
              "--target-bytes", "64")
    with socket.create_connection(("127.0.0.1", s.port), 20) as c:
        for i in range(3):
            answer = ask(c, get("/health"))
            assert status_of(answer) == 200
            assert (b"Connection: close" in answer) == (i == 2), (i, answer)
        assert read_end(c) == b""
    with socket.create_connection(("127.0.0.1", s.port), 20) as c:
        assert status_of(ask(c, get("/" + "x" * 64))) == 414
    with socket.create_connection(("127.0.0.1", s.port), 20) as c:
        c.sendall(b"GET /health HT")
        assert status_of(read_end(c)) == 408
    with socket.create_connection(("127.0.0.1", s.port), 20) as c:
        assert read_end(c) == b"", "idle"
    s.ends()


# ---- the access log ------------------------------------------------------------------------------

@case
def access_log():
    log = SCRATCH / "access.log"
    secret = "xyzzy-plugh"
    for form in ("json", "logfmt"):
        s = Plain("--access-log", form, "--access-log-file", str(log))
        s.post(CHAT, {"messages": [{"role": "user", "content": secret}], "max_tokens": 4},
               {"X-Request-Id": "my id".replace(" ", "-")})
        s.get(f"/v1/models/{secret}")
        with socket.create_connection(("127.0.0.1", s.port), 10) as c:
            c.sendall(b"nonsense " + secret.encode() + b"\r\n\r\n")
            read_end(c)
        s.until("three lines", lambda: log.read_text().count("route") >= 4)
        moved = SCRATCH / "access.log.1"
        log.rename(moved)
        s.process.send_signal(signal.SIGHUP)
        s.until("a new file", log.exists)
        s.get("/version")
        s.ends()
        text = moved.read_text()
        assert secret not in text + log.read_text()
        assert "/version" in log.read_text()
        if form == "json":
            rows = [json.loads(line) for line in text.split("\n") if line]
            chat = next(r for r in rows if r["route"] == CHAT)
            assert chat["status"] == 200 and chat["completion"] == 4 and chat["prompt"] > 0
            assert chat["id"] == "my-id" and chat["addr"] == "127.0.0.1" and chat["ms"] > 0
            assert {r["status"] for r in rows} >= {200, 404, 400}
        else:
            assert f"route={CHAT} status=200" in text and 'id="my-id"' in text
        log.unlink()
        moved.unlink()


# ---- the end -------------------------------------------------------------------------------------

@case
def drain_in_order():
    """Ready says 503 first while requests are taken; then the door shuts; then answers end."""
    s = Plain("--drain-delay-s", "0.6")
    c = s.connect()
    c.request("POST", CHAT, json.dumps(COUNT | {"max_tokens": 600, "stream": True,
                                                "ignore_eos": True}))
    r = c.getresponse()
    first = r.read(10)
    s.process.send_signal(signal.SIGTERM)
    s.until("not ready", lambda: s.get("/health/ready")[0] == 503)
    assert s.get("/health/live")[0] == 200
    assert s.chat(FRANCE | {"max_tokens": 2})["choices"], "still taken"
    chunks = events(first + r.read())
    assert chunks[-1]["choices"][0]["finish_reason"] == "length", chunks[-1]
    started = time.monotonic()
    s.process.wait(30)
    assert s.process.returncode == 0 and time.monotonic() - started < 5, s.said()


@case
def drain_waits_for_no_half_request():
    s = Plain("--drain-grace-s", "0.3")
    head = socket.create_connection(("127.0.0.1", s.port), 20)
    head.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost")
    body = socket.create_connection(("127.0.0.1", s.port), 20)
    body.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nxxx".encode())
    time.sleep(0.2)
    started = time.monotonic()
    s.process.send_signal(signal.SIGTERM)
    for c in (head, body):
        assert status_of(read_end(c)) == 503
        c.close()
    s.process.wait(30)
    assert s.process.returncode == 0 and time.monotonic() - started < 5, s.said()


@case
def second_signal_ends_at_once():
    s = Plain()
    c = s.connect()
    c.request("POST", CHAT, json.dumps(COUNT | {"max_tokens": 900, "stream": True,
                                                "ignore_eos": True}))
    r = c.getresponse()
    first = r.read(10)
    s.process.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    started = time.monotonic()
    s.process.send_signal(signal.SIGTERM)
    raw = first + r.read()
    assert raw.endswith(b"\n\n"), raw[-100:]
    s.process.wait(30)
    assert s.process.returncode == 0 and time.monotonic() - started < 3, s.said()


def main():
    global BINARY
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default=str(e2e.ROOT / "build/cpu/firstlight"))
    parser.add_argument("--only")
    options = parser.parse_args()
    BINARY = options.binary
    os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=1")
    if not shutil.which("openssl"):
        print("skipped: no openssl program")
        return 1
    make_certificate()
    passed, failed = 0, []
    for function in CASES:
        if options.only and options.only != function.__name__:
            continue
        started = time.monotonic()
        try:
            function()
            passed += 1
            print(f"[       OK ] {function.__name__} {time.monotonic() - started:.1f} s", flush=True)
        except Exception:
            failed.append(function.__name__)
            print(f"[ FAILED ] {function.__name__}\n{traceback.format_exc()}", flush=True)
    shutil.rmtree(SCRATCH, ignore_errors=True)
    print(f"[  PASSED  ] {passed} test(s).")
    if failed:
        print(f"[  FAILED  ] {len(failed)} test(s): {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Bugs planted in the real kernels, one at a time; each has to be caught under tests/simt.

Aim: to know that a green run of the emulated kernels means something. A plant replaces one piece
of text of one file; the kernel is compiled with it, linked with the objects of a build, and run
through the cases of tests/ops_test.c, or of the kernel's own test. A plant whose text is no longer
there fails as well.
  tests/plants.py --build build       needs the presets cpu, asan and tsan built
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
FLAGS = ("-g -O1 -D_GNU_SOURCE -DWITH_CUDA -Wno-unknown-pragmas "
         "-ffp-contract=off").split()
SANITIZE = {"cpu": [], "asan": ["-fsanitize=address,undefined"], "tsan": ["-fsanitize=thread"]}
WRONG = r"FAILED|Failure!"
RACE = r"data race"
BANKS = r"bank conflicts"
OVERFLOW = r"heap-buffer-overflow"

# The files that a header's plants are compiled in.
SOURCES = {"pick_select.cuh": "pick.cu", "half.h": "rope.cu",
           "attention_chunk.cuh": "attention_few.cu attention_many.cu",
           "linear_skinny.cuh": "linear_skinny.cu", "linear_turned.cuh": "linear_turned.cu",
           "linear_tile.cuh": "linear_tile.cu"}

# Cases of a program of their own, and those that are one test of a program.
PROGRAMS = {"steps": "cuda_graphs", "layer": "cuda_fault", "upload": "cuda_upload",
            "memory": "cuda_memory"}
TESTS = {"layer": "test_health", "barriers": "test_barriers", "rows": "test_rows"}

# name, file, what is there, what is planted, kernel of the table or a name of the above ("barriers":
# of tests/attention_test.c; "rows": of ops_test.c), preset, what must be reported
PLANTS = [
    ("missing barrier in the main loop", "linear_tile.cuh",
     "        __syncthreads(); /* the stage is here", "        /* the stage is here",
     "tile 64", "cpu", WRONG),
    ("the same, by the race detector", "linear_tile.cuh",
     "        __syncthreads(); /* the stage is here", "        /* the stage is here",
     "tile 64", "tsan", RACE),
    ("wait_group one too loose", "linear_tile.cuh",
     "cp_async_wait<T::stages - 2>();", "cp_async_wait<T::stages - 1>();",
     "tile 64", "cpu", WRONG),
    ("rows not checked on the way in", "linear_tile.cuh",
     "bool real = from0 + r < limit && k0 + 16 * c < k;", "bool real = k0 + 16 * c < k;",
     "tile 64", "asan", OVERFLOW),
    ("rows not checked on the way out", "linear_tile.cuh",
     "            if (row >= p.rows)\n                continue;", "",
     "tile 64", "asan", OVERFLOW),
    ("fragments read by another permutation", "linear_tile.cuh",
     "ldmatrix_x4(a[i], x + (shared_address)place(t.warp_row + 16 * i + lane % 16,\n"
     "                                                        2 * step + lane / 16));",
     "ldmatrix_x4(a[i], x + (shared_address)(DEPTH * (t.warp_row + 16 * i + lane % 16) +\n"
     "                                       16 * (2 * step + lane / 16)));",
     "tile 64", "cpu", WRONG),
    ("the permutation of rows removed", "linear_tile.cuh",
     "((c ^ (r & 7)) << 4)", "(c << 4)", "tile 64", "cpu", BANKS),
    ("a slot beyond the last", "linear_tile.cuh",
     "(next - first) % T::stages", "(next - first)",
     "tile 64", "cpu", r"shared address out of range"),
    ("partial sums told of before they are there", "linear_tile.cuh",
     "    __syncthreads();\n    if (threadIdx.x == 0)\n        last = arrive_last",
     "    if (threadIdx.x == 0)\n        last = arrive_last",
     "tile 64", "tsan", RACE),
    ("a copy from an unaligned row", "linear.cu",
     '{"tile 64", linear_tile_small, NUM_Q8, 80, ANY_SM, 1, 191, 16}',
     '{"tile 64", linear_tile_small, NUM_Q8, 80, ANY_SM, 1, 191, 1}',
     "tile 64", "cpu", r"not 16-byte aligned"),
    ("two blocks write the same rows", "linear_tile.cuh",
     "t.row0 = (int)blockIdx.x * T::rows;", "t.row0 = (int)blockIdx.x / 2 * T::rows;",
     "tile 64", "tsan", RACE),
    ("a phase that never turns", "linear_wgmma.cu",
     "mbarrier_wait(r.full + (shared_address)(8 * slot), (unsigned)(stage / SLOTS) & 1);",
     "mbarrier_wait(r.full + (shared_address)(8 * slot), 0);",
     "wgmma", "cpu", WRONG + "|deadlock"),
    ("a slot that is never given back", "linear_wgmma.cu",
     "if (stage > 0 && speaks)", "if (stage < 0 && speaks)",
     "wgmma", "cpu", r"deadlock"),
    ("a slot given back while wgmma reads it", "linear_wgmma.cu",
     "        wgmma_wait<1>();\n        if (stage > 0 && speaks)\n"
     "            mbarrier_arrive(r.empty + (shared_address)(8 * ((stage - 1) % SLOTS)));",
     "        if (speaks)\n"
     "            mbarrier_arrive(r.empty + (shared_address)(8 * (stage % SLOTS)));\n"
     "        wgmma_wait<1>();",
     "wgmma", "cpu", WRONG),
    ("fewer bytes expected than come", "linear_wgmma.cu",
     "mbarrier_expect(full, 2 * SLOT_BYTES);", "mbarrier_expect(full, SLOT_BYTES);",
     "wgmma", "cpu", WRONG + "|deadlock|more arrivals"),
    ("a descriptor that steps too far", "linear_wgmma.cu",
     "wgmma_descriptor(x + (shared_address)k),", "wgmma_descriptor(x + (shared_address)(2 * k)),",
     "wgmma", "cpu", WRONG + "|out of range"),
    ("mbarriers used before all know them", "linear_wgmma.cu",
     "    __syncthreads();\n    dependency_wait();", "    dependency_wait();",
     "wgmma", "cpu", r"not initialized"),
    ("missing barrier before the sum over warps", "linear_skinny.cuh",
     "    __syncthreads();\n    finish<S>", "    finish<S>",
     "skinny", "cpu", WRONG),
    ("the same, by the race detector", "linear_skinny.cuh",
     "    __syncthreads();\n    finish<S>", "    finish<S>",
     "skinny", "tsan", RACE),
    ("a kernel that never waits for the one before", "linear_skinny.cuh",
     "    dependency_wait();", "", "layer", "cpu", r"without dependency_wait"),
    ("a row read before the one who writes it is done", "rows.cu",
     "    dependency_wait();\n    read_fours<N>(v, x + (size_t)blockIdx.x * (size_t)dim, first, fours);",
     "    read_fours<N>(v, x + (size_t)blockIdx.x * (size_t)dim, first, fours);\n    dependency_wait();",
     "layer", "tsan", RACE),
    ("a row read beyond its end", "rows.cu",
     "v[j] = first + WARP * j < fours ? in[WARP * j] : float4{};", "v[j] = in[WARP * j];",
     "rows", "asan", OVERFLOW),
    ("squares of warps that are not there", "rows.cu",
     "        part[lane_of_warp()] = 0.0f;\n", "        part[lane_of_warp()] += 0.0f;\n",
     "rows", "cpu", WRONG),
    ("a maximum of one warp", "rows.cu",
     "    return warp_most(lane_of_warp() < (int)blockDim.x / WARP ? part[lane_of_warp()] : 0.0f);",
     "    return most;", "rows", "cpu", WRONG),
    ("a maximum before all warps have theirs", "rows.cu",
     "        part[warp_of_block()] = most;\n    __syncthreads();", "        part[warp_of_block()] = most;",
     "rows", "tsan", RACE),
    ("activations asked for before the wait", "linear_skinny.cuh",
     "    dependency_wait();\n",
     "    int early = p.x.kind == NUM_Q8 ? p.x.q[threadIdx.x % 16] : 0;\n"
     "    dependency_wait();\n    if (early == 100)\n        return;\n",
     "layer", "tsan", RACE),
    ("a collective in a branch", "linear_skinny.cuh",
     "if (step >= weights.steps)\n                break;",
     "if (step >= weights.steps || row0 + g >= p.rows)\n                break;",
     "skinny", "cpu", r"different collectives|deadlock"),
    ("channels not checked", "linear_skinny.cuh",
     "8 * r < left ? 8 * r : left", "8 * r",
     "skinny", "asan", OVERFLOW),
    ("a share's last slot kept", "linear_turned.cuh",
     "    if (speaks)\n        mbarrier_arrive(r.empty_of(last - 1));", "    (void)speaks;",
     "turned", "cpu", r"deadlock"),
    ("a slot given back before it is read", "linear_turned.cuh",
     "        wgmma_wait<1>();\n        if (turn > first && speaks)\n"
     "            mbarrier_arrive(r.empty_of(turn - 1));",
     "        if (turn > first && speaks)\n            mbarrier_arrive(r.empty_of(turn - 1));\n"
     "        if (turn == first && turn + 1 < last && speaks)\n"
     "            mbarrier_arrive(r.empty_of(turn));\n        wgmma_wait<1>();",
     "turned", "cpu", WRONG + "|more arrivals|deadlock"),
    ("a ring that forgets its lap", "linear_turned.cuh",
     "return (unsigned)(turn / S::slots) & 1;", "return (unsigned)turn & 1;",
     "turned", "cpu", WRONG + "|deadlock"),
    ("a share one stage short", "linear_turned.cuh",
     "return (int)((int64_t)units * block / blocks);",
     "return (int)((int64_t)(units - 1) * block / blocks);",
     "turned", "cpu", WRONG + "|deadlock"),
    ("a tile that is told of before it is there", "linear_turned.cuh",
     "        mine[i * WARP] = sum[i];\n    __syncwarp();", "        mine[i * WARP] = sum[i];",
     "turned", "tsan", RACE),
    ("parts of a tile in one place", "linear_turned.cuh",
     "    place += s.first(block) / s.stages != tile;", "",
     "turned", "cpu", WRONG),
    ("an owner too many", "linear_turned.cuh",
     "(((int64_t)unit + 1) * blocks - 1) / units", "(((int64_t)unit + 1) * blocks) / units",
     "turned", "cpu", WRONG),
    ("a copying thread that never waits for the kernel before", "linear_turned.cuh",
     "    dependency_wait();\n    for (int turn = 0; turn < ahead; turn++)\n"
     "        from.activations(r, turn);",
     "    for (int turn = 0; turn < ahead; turn++)\n        from.activations(r, turn);",
     "turned", "cpu", r"without dependency_wait"),
    ("activations of the ring's first turns before the wait", "linear_turned.cuh",
     "    dependency_wait();\n    for (int turn = 0; turn < ahead; turn++)\n"
     "        from.activations(r, turn);",
     "    for (int turn = 0; turn < ahead; turn++)\n        from.activations(r, turn);\n"
     "    dependency_wait();",
     "turned", "tsan", RACE),
    ("channels of a ragged tile written", "linear_turned.cuh",
     "        if (n >= p.w.n)\n            continue;", "",
     "turned", "asan", OVERFLOW),
    ("control", "linear_turned.cuh", "enum {", "enum {", "turned", "tsan", None),
    ("keys used before they are there", "attention_few.cu",
     "    cp_async_wait<1>();\n    __syncwarp(); /* keys", "    __syncwarp(); /* keys",
     "", "cpu", WRONG + "|cp.async under way"),
    ("the other buffer filled while it is read", "attention_many.cu",
     "        __syncthreads(); /* the chunk is here, and nobody reads the other */", "",
     "", "cpu", WRONG),
    ("the permutation of keys removed", "attention_chunk.cuh",
     "piece ^= pieces < 8 ? row / 2 % pieces : row % 8;", "piece ^= 0;",
     "", "cpu", BANKS),
    ("a window one key too wide", "attention_chunk.cuh",
     "last - window : -1", "last - window - 1 : -1",
     "", "cpu", WRONG),
    ("keys beyond the sequence", "attention_chunk.cuh",
     "if (key < CHUNK && first + key < end)", "if (key < CHUNK)",
     "barriers", "asan", OVERFLOW + "|runtime error|SEGV"),
    ("rows fetched before their places are known", "attention_many.cu",
     "    __syncthreads(); /* the places are there */\n", "", "barriers", "tsan",
     RACE + "|not 16-byte aligned"),
    ("a warp's rows fetched before their places are known", "attention_few.cu",
     "    __syncwarp();\n    fetch_keys(c, p, w, four);", "    fetch_keys(c, p, w, four);",
     "barriers", "tsan", RACE),
    ("places of the next keys while these are fetched", "attention_few.cu",
     "        __syncwarp(); /* and nobody reads keys and scales any more */\n", "",
     "barriers", "tsan", RACE),
    ("the other buffer filled, by the race detector", "attention_many.cu",
     "        __syncthreads(); /* the chunk is here, and nobody reads the other */\n", "",
     "barriers", "tsan", RACE),
    ("keys of other lanes before they are there", "attention_few.cu",
     "    __syncwarp(); /* keys and scales are here */\n", "", "barriers", "tsan", RACE),
    ("values of other lanes before they are there", "attention_few.cu",
     "    __syncwarp(); /* values are here */\n", "", "barriers", "tsan", RACE),
    ("values overwritten while they are read", "attention_few.cu",
     "    __syncwarp(); /* and nobody reads them any more */\n", "", "barriers", "tsan", RACE),
    ("queries of other warps before they are there", "attention_few.cu",
     "    __syncthreads(); /* the queries are there */\n", "", "barriers", "cpu", WRONG),
    ("parts joined before they are there", "attention_few.cu",
     "            __syncthreads(); /* the parts are there */\n", "", "barriers", "cpu", WRONG),
    ("parts told of before they are there", "attention_few.cu",
     "        __syncthreads(); /* the block's parts are there */\n", "", "barriers", "tsan", RACE),
    ("a key without the context", "graphs.cu",
     " &&\n           a->context == b->context", "", "steps", "cpu", WRONG),
    ("a key without the rows", "graphs.cu",
     "a->rows == b->rows && a->picks == b->picks &&", "", "steps", "cpu", WRONG),
    ("a key without its owner", "graphs.cu",
     "a->owner == b->owner && ", "", "steps", "cpu", WRONG),
    ("recordings of memory that is gone", "ops_cuda.cu",
     "    graphs_forget(&self(o)->graphs);\n    (void)cudaFree(p);", "    (void)cudaFree(p);",
     "steps", "asan", WRONG + "|heap-use-after-free"),
    ("graphs beyond the limit", "graphs.cu",
     "if (g->n == CUDA_GRAPHS_MAX)\n        drop(g, oldest(g));",
     "if (g->n == CUDA_GRAPHS_MAX)\n        g->n--;", "steps", "cpu", WRONG),
    ("recorded at first sight", "graphs.cu",
     "        remember(g, key);\n        return false;",
     "        remember(g, key);\n        found = find(g, key);", "steps", "cpu", WRONG),
    ("a failed recording taken for a step", "graphs.cu",
     "    return good && went(g, cudaGraphLaunch(made->exec, g->stream), \"launching one\");",
     "    return !good || went(g, cudaGraphLaunch(made->exec, g->stream), \"launching one\");",
     "steps", "cpu", WRONG),
    ("padding that stores keys", "rope.cu",
     "    if (position < 0)\n        return; /* nobody's row */\n    struct kv_place at = {};",
     "    struct kv_place at = {};",
     "steps", "asan", OVERFLOW + "|runtime error|SEGV"),
    ("sines used before they are there", "rope.cu",
     "&sm.cosine[thread]);\n    __syncthreads();", "&sm.cosine[thread]);",
     "", "cpu", WRONG),
    ("a value turned like a key", "rope.cu",
     "    if (real && turns)\n        v = turned", "    if (real)\n        v = turned",
     "", "cpu", WRONG),
    ("the scale of half a head", "rope.cu",
     "float most = head_most<LANES>(", "float most = head_most<LANES / 2>(",
     "", "cpu", WRONG),
    ("tokens that are not waited for", "ring.cu",
     "if (cudaStreamQuery((cudaStream_t)stream) != cudaErrorNotReady)\n        return arrived(r);",
     "if (r->step != 0)\n        return true;", "steps", "cpu", WRONG),
    ("keys a step behind", "model_step.c",
     "    o->upload(o, m->device, m->host, n * sizeof(*m->host));\n"
     "    o->picks(o, m->drawn, m->pick, b->n_picks, l->config.info.vocab);\n"
     "    if (o->step_begin(o, recorded ? &shape : NULL)) {\n        do",
     "    o->picks(o, m->drawn, m->pick, b->n_picks, l->config.info.vocab);\n"
     "    if (o->step_begin(o, recorded ? &shape : NULL)) {\n"
     "        o->upload(o, m->device, m->host, n * sizeof(*m->host));\n        do", "steps", "cpu", WRONG),
    ("a pinned buffer filled while it is sent", "staging.cu",
     "cudaError_t error = window_wait(through);", "cudaError_t error = cudaSuccess;",
     "upload", "cpu", WRONG),
    ("a window filled while it is sent", "load.c",
     "        l->ops->window_wait(l->ops, &d->sent->window);", "        (void)0;",
     "upload", "cpu", WRONG),
    ("a window given back while it is sent", "ops_cuda.cu",
     "    if (w->sent)\n        (void)good(c,", "    if (!c)\n        (void)good(c,",
     "upload", "asan", WRONG + "|heap-use-after-free"),
    ("a group of picks that never goes up", "ops_cuda.cu",
     "        if (first > 0)\n            send_group(c, first, n);\n", "", "memory", "cpu", WRONG),
    ("a cache that is more than is left", "model_plan.c",
     "> all - count.bytes)\n        n--;", "> SIZE_MAX - 1)\n        n--;", "memory", "cpu", WRONG),
    ("halves of the wrong dims", "attention_chunk.cuh",
     "2 * b + lane / 16", "2 * b",
     "", "cpu", WRONG),
    ("halves by truncation", "half.h",
     "(u - 0x38000000u + 0xfffu + (u >> 13 & 1u)) >> 13", "(u - 0x38000000u) >> 13",
     "", "cpu", WRONG),
    ("a limit one token short", "pick_select.cuh",
     "unsigned n = sm.reached.before;", "unsigned n = sm.reached.before + 1;",
     "", "cpu", WRONG),
    ("a tie cut anywhere", "pick_select.cuh",
     "sm.member[i].place < mine.place;",
     "(sm.member[i].place ^ 0xffffffffu) < (mine.place ^ 0xffffffffu);",
     "", "cpu", WRONG),
    ("a carry lost", "pick_select.cuh",
     "(unsigned)(mass >> 32) + carry;", "(unsigned)(mass >> 32);",
     "", "cpu", WRONG),
    ("bins counted while they are cleared", "pick_select.cuh",
     "    clear(sm.coarse);\n    __syncthreads();\n    int rest", "    clear(sm.coarse);\n    int rest",
     "", "cpu", WRONG),
    ("bins read while they are counted", "pick_select.cuh",
     "(unsigned)rest);\n    __syncthreads();", "(unsigned)rest);",
     "", "tsan", RACE),
    ("draws by place in the batch", "pick.cu",
     "draw(sm, t.seed, t.position)", "draw(sm, t.seed, blockIdx.y)",
     "", "cpu", WRONG),
    ("edits that stay", "pick.cu",
     "        restore(v, t, row);", "        __syncthreads();",
     "", "cpu", WRONG),
    ("a token's biases taken once more", "pick.cu",
     "t.n_bias, false,", "t.n_bias, true,", "", "cpu", WRONG),
    ("a token banned twice and never given back", "pick.cu",
     "t.n_banned, false,", "t.n_banned, true,", "", "cpu", WRONG),
    ("a block that does not wait for the others", "pick.cu",
     "sm.last = arrive_last(&job.arrived[pick], (unsigned)parts);", "sm.last = (int)blockIdx.x == parts / 2;",
     "", "cpu", WRONG),
    # Nothing planted: nothing may be reported.
    ("control", "attention_chunk.cuh", "enum {", "enum {", "barriers", "tsan", None),
    ("control", "graphs.cu", "static bool same", "static bool same", "steps", "cpu", None),
    ("control", "linear_tile.cuh", "enum {", "enum {", "tile 64", "cpu", None),
    ("control", "linear_wgmma.cu", "enum {", "enum {", "wgmma", "asan", None),
    ("control", "linear_skinny.cuh", "enum {", "enum {", "skinny", "tsan", None),
    ("a reduction's second barrier", "device.cuh",
     "        sum += part[i];\n    __syncthreads();", "        sum += part[i];",
     "rows", "tsan", RACE),
]


def compile_objects(folder, preset):
    """The sources of the folder's tree; headers there shadow the project's."""
    objects = []
    for source in sorted(folder.glob("*/*.c*")):
        target = folder / (source.stem + ".o")
        language = {".cu": ["g++", "-std=c++17", "-x", "c++"], ".c": ["gcc", "-std=c11"]}
        if source.suffix not in language:
            continue
        subprocess.run([*language[source.suffix], *FLAGS, *SANITIZE[preset],
                        f"-I{ROOT}/tests/simt", f"-I{folder}", f"-I{ROOT}", "-c", str(source),
                        "-o", str(target)], check=True)
        objects.append(target)
    return objects


def cases_for(file, kernel):
    """The program that has to see it, and its source."""
    if kernel in PROGRAMS:
        return PROGRAMS[kernel], PROGRAMS[kernel]
    names = {"attention": "attention", "rope": "attention", "pick": "sampling"}
    name = next((n for start, n in names.items() if file.startswith(start)), "ops")
    return f"{name}_simt", f"{name}_test"


def plant(row, build):
    """Whether all is as it should be, and what was reported."""
    name, file, old, new, kernel, preset, report = row
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        floor = "models" if file.endswith(".c") else "kernels"
        (folder / floor).mkdir()
        text = (ROOT / floor / file).read_text()
        if text.count(old) != 1:
            return False, f"its text stands {text.count(old)} times in {file}"
        wanted = [file] if file.endswith((".c", ".cu")) else SOURCES.get(file, "rows.cu").split()
        for each in wanted:
            shutil.copy(ROOT / floor / each, folder / floor)
        for header in (ROOT / floor).glob("*.cuh"):
            shutil.copy(header, folder / floor)
        (folder / floor / file).write_text(text.replace(old, new))
        objects = compile_objects(folder, preset)
        program, source = cases_for(wanted[0], kernel)
        tests = build / preset / "CMakeFiles" / f"{program}.dir" / "tests" / f"{source}.c.o"
        program = folder / "planted"
        subprocess.run(["g++", *SANITIZE[preset], *map(str, objects), str(tests),
                        str(build / preset / "libsimt.a"), "-lcmocka", "-lcjson", "-lutf8proc",
                        "-lpcre2-8", "-lpthread", "-lm", "-o", str(program)], check=True)
        env = dict(os.environ, FIRSTLIGHT_BACKEND="cuda", SIMT_SM="90", SIMT_BANKS="1",
                   CMOCKA_TEST_ABORT="0", TSAN_OPTIONS="halt_on_error=1", ASAN_OPTIONS="")
        if kernel and kernel not in PROGRAMS and kernel not in TESTS:
            env["FIRSTLIGHT_LINEAR"] = kernel
        one = [TESTS[kernel]] if kernel in TESTS else []
        run = subprocess.run([str(program), *one], env=env, capture_output=True, text=True,
                             errors="replace", timeout=300)
        if report is None:
            good = run.returncode == 0
            return good, "nothing reported" if good else "reported without a plant"
        if run.returncode == 0:
            return False, "not caught"
        found = re.search(report, run.stdout + run.stderr)
        if not found:
            return False, f"caught otherwise than by {report}: {(run.stdout + run.stderr)[-300:]}"
    return True, f"caught: {found.group()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--only", default="", help="plants whose name or file holds this")
    parser.add_argument("--preset", choices=SANITIZE, help="plants that are caught in this one")
    args = parser.parse_args()
    caught = missed = 0
    for row in PLANTS:
        if args.only not in row[0] + " " + row[1] or args.preset not in (None, row[5]):
            continue
        started = time.monotonic()
        good, how = plant(row, args.build)
        caught += good
        missed += not good
        print(f"{row[5]:5} {row[1]:17} {row[0]:45} {how} ({time.monotonic() - started:.1f} s)",
              flush=True)
    print(f"[  PASSED  ] {caught} test(s).")
    if missed:
        print(f"[  FAILED  ] {missed} test(s).")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

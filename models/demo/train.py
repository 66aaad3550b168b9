"""Trains the demo model on two cores.

`python3 train.py --out DIR [--steps N --decay D] [--resume FILE]`

The learning rate is constant and falls linearly to zero over the last D of N steps. As the stream
of batches depends on the seed and the step alone, a run that is resumed before the decay and told
a new N gives the same weights as one that was told so from the start.

Two processes with one thread each take half of every batch, and add up their gradients in shared
memory. On small matrices this is nearly twice as fast as two threads in one process.
"""
import argparse
import os
import random
import time

# For the workers, which are started as new processes: one thread, and a malloc that keeps freed
# memory. With the defaults half of the time goes to the kernel, which maps and clears pages.
os.environ.update(OPENBLAS_NUM_THREADS="1", MALLOC_MMAP_THRESHOLD_=str(1 << 30),
                  MALLOC_TRIM_THRESHOLD_=str(4 << 30), MALLOC_TOP_PAD_=str(64 << 20))
import torch
import torch.nn.functional as F
from torch import multiprocessing as mp

import corpus
import tokenizer
from model import CONFIG, Llama

SEED = 20261122
WORKERS = 2
CHUNK = 8192            # conversations generated at a time
LATER_CHUNK = 5         # the first one with corpus.LATER
REFINE_CHUNK = 1000     # the first one of --refine, with corpus.REFINE
BATCH = 2048            # padded tokens per worker and step
RATE, REFINE_RATE, WARMUP, CLIP = 2e-3, 1e-3, 100, 1.0


def encode(sp, system, turns):
    """(ids, is the token learned): plain text wholly, of a conversation the answers."""
    if isinstance(turns, str):
        ids = [tokenizer.BOS] + sp.encode(turns) + [tokenizer.EOS]
        return ids, [True] * len(ids)
    ids, learned = [tokenizer.BOS], [False]
    for role, text in corpus.messages(system, turns):
        part = tokenizer.message(sp, role, text)
        skip = len(sp.encode("assistant\n")) + 1 if role == "assistant" else len(part)
        ids += part
        # The newline that closes a message is given by the template and not written by the model.
        learned += [skip <= i < len(part) - 1 for i in range(len(part))]
    return ids[:CONFIG["max_position_embeddings"]], learned[:CONFIG["max_position_embeddings"]]


def batches(sp, chunk):
    """Steps of one chunk: per step one padded (ids, learned) pair for each worker, all of about
    the same length, so that little is padded and the workers wait little for each other."""
    mix = (corpus.EARLY if chunk < LATER_CHUNK else
           corpus.LATER if chunk < REFINE_CHUNK else corpus.REFINE)
    items = [encode(sp, *s) for s in corpus.samples(SEED + chunk, CHUNK, mix)]
    items.sort(key=lambda item: len(item[0]))
    steps, at = [], 0
    while at < len(items):
        rows, size = WORKERS, WORKERS
        while size <= len(items) - at and len(items[at + size - 1][0]) * size <= WORKERS * BATCH:
            rows, size = size, size + WORKERS
        part = items[at:at + rows]
        at += rows
        if len(part) < WORKERS:
            break
        width = max(len(ids) for ids, _ in part)
        ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in part])
        learned = torch.tensor([m + [False] * (width - len(m)) for _, m in part])
        steps.append([(ids[w::WORKERS], learned[w::WORKERS]) for w in range(WORKERS)])
    random.Random(chunk).shuffle(steps)
    return steps


def rate(step, args):
    if args.refine:
        return REFINE_RATE * max(0, args.steps - step) / args.steps
    warm = min(1, (step + 1) / WARMUP)
    return RATE * warm * min(1, max(0, args.steps - step) / args.decay)


def work(me, args, shared, counts, barrier):
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    sp = tokenizer.load(os.path.dirname(os.path.abspath(__file__)))
    model = Llama()
    params = list(model.parameters())
    optimizer = torch.optim.AdamW(
        [{"params": [p for p in params if p.dim() == 2], "weight_decay": 0.1},
         {"params": [p for p in params if p.dim() == 1], "weight_decay": 0.0}],
        lr=RATE, betas=(0.9, 0.98))
    first_chunk, skip, step, seen = 0, 0, 0, 0
    if args.resume:
        saved = torch.load(args.resume)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first_chunk, skip, step, seen = (saved[k] for k in ("chunk", "done", "step", "seen"))
        if args.refine:
            first_chunk, skip, step = REFINE_CHUNK, 0, 0
    began, smooth = time.time(), None

    def save(name):
        if me == 0:
            path = os.path.join(args.out, name)
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(),
                        "chunk": chunk, "done": done, "step": step, "seen": seen}, path + ".new")
            os.replace(path + ".new", path)

    chunk = first_chunk
    while step < args.steps:
        todo = batches(sp, chunk)
        for done, step_parts in enumerate(todo[skip:], skip + 1):
            ids, learned = step_parts[me]
            mask = learned[:, 1:]
            with torch.autocast("cpu", dtype=torch.bfloat16):  # twice as fast as float32
                logits = model.logits(model.hidden(ids[:, :-1])[mask])
            loss = F.cross_entropy(logits.float(), ids[:, 1:][mask], reduction="sum")
            loss.backward()
            shared[me].copy_(torch.cat([p.grad.view(-1) for p in params]))
            counts[me, 0], counts[me, 1] = loss.item(), int(mask.sum())
            barrier.wait()
            total, learned_tokens = counts.sum(0).tolist()
            gradient = shared.sum(0) / learned_tokens
            gradient *= min(1, CLIP / (gradient.norm().item() + 1e-6))
            barrier.wait()  # nobody overwrites the gradients before all have read them
            at = 0
            for p in params:
                p.grad.copy_(gradient[at:at + p.numel()].view_as(p))
                at += p.numel()
            for group in optimizer.param_groups:
                group["lr"] = rate(step, args)
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
            step += 1
            seen += sum(part[0].numel() for part in step_parts)
            mean = total / learned_tokens
            smooth = mean if smooth is None else 0.98 * smooth + 0.02 * mean
            if me == 0 and step % 20 == 0:
                print(f"step {step} tokens {seen} loss {mean:.4f} smooth {smooth:.4f} "
                      f"lr {rate(step - 1, args):.2e} seconds {time.time() - began:.0f}",
                      flush=True)
            if step % args.save == 0:
                save("last.pt")
            if step == args.steps - args.decay:
                save("before-decay.pt")
            if step == args.steps:
                break
        chunk, skip = chunk + 1, 0
    chunk -= 1
    save("final.pt")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder for the checkpoints")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--decay", type=int, default=600)
    parser.add_argument("--save", type=int, default=200)
    parser.add_argument("--resume", help="checkpoint to go on from")
    parser.add_argument("--refine", action="store_true",
                        help="go on with a short run of --steps from the end of another one")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    size = sum(p.numel() for p in Llama().parameters())
    print(f"parameters {size}", flush=True)
    shared = torch.zeros(WORKERS, size).share_memory_()
    counts = torch.zeros(WORKERS, 2, dtype=torch.float64).share_memory_()
    mp.spawn(work, (args, shared, counts, mp.get_context("spawn").Barrier(WORKERS)),
             nprocs=WORKERS)


if __name__ == "__main__":
    main()

"""Trains LoRA pairs of rank 8 for all seven matrices of the Qwen 2.5 0.5B shape with PyTorch, in F32, as somebody would who
wants it to be fast: the base frozen, every layer computed again on the way back, the optimiser over all pairs at once. It
prints a line of JSON with the tokens per second of each step. build/bench runs it beside Centram's trainer.

    train_torch.py [THREADS [STEPS]] [plain]

With plain, nothing is set that Debian's packages do not set by themselves.
"""
import ctypes
import json
import math
import os
import sys

PLAIN = "plain" in sys.argv
NUMBERS = [int(n) for n in sys.argv[1:] if n != "plain"]
THREADS, STEPS = NUMBERS + [2, 4][len(NUMBERS) :]

# Before torch is loaded. OpenBLAS is to choose its kernels itself. Its threads share the cores with OpenMP's, which by default
# spin while they wait and so halve the speed. Memory is kept, since fresh pages cost time.
if not PLAIN:
    os.environ.pop("OPENBLAS_CORETYPE", None)
    os.environ.pop("OPENBLAS_L2_SIZE", None)
    os.environ.update(OMP_WAIT_POLICY="PASSIVE", OMP_NUM_THREADS=str(THREADS), OPENBLAS_NUM_THREADS=str(THREADS))
    M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
    ctypes.CDLL(None).mallopt(M_MMAP_MAX, 0)
    ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, 2**31 - 1)

import time

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

LAYERS, WIDTH, HEADS, KV_HEADS, FORWARD, VOCAB = 24, 896, 14, 2, 4864, 151936
ROWS, RANK = 512, 8
HEAD = WIDTH // HEADS
GROUP = HEADS // KV_HEADS  # heads that share a KV head


class Linear(nn.Module):
    """y = W x + b + B A x, of which A and B are trained."""

    def __init__(self, n_in, n_out, bias=False):
        super().__init__()
        self.w = torch.randn(n_out, n_in) / math.sqrt(n_in)
        self.bias = torch.randn(n_out) * 0.02 if bias else None
        self.a = nn.Parameter(torch.randn(RANK, n_in) / math.sqrt(n_in))
        self.b = nn.Parameter(torch.zeros(n_out, RANK))

    def forward(self, x):
        return F.linear(x, self.w, self.bias) + F.linear(F.linear(x, self.a), self.b)


def norm(x, w):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * w


angle = torch.arange(ROWS)[:, None] * 1e6 ** (-torch.arange(0, HEAD, 2) / HEAD)
COS, SIN = (torch.cat([f(angle)] * 2, -1) for f in (torch.cos, torch.sin))
MASK = torch.full((ROWS, ROWS), -math.inf).triu(1)


def rope(x):  # (heads, rows, head)
    half = HEAD // 2
    return x * COS + torch.cat([-x[..., half:], x[..., :half]], -1) * SIN


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn_norm, self.ffn_norm = torch.ones(WIDTH), torch.ones(WIDTH)
        self.q, self.o = Linear(WIDTH, WIDTH, True), Linear(WIDTH, WIDTH)
        self.k, self.v = (Linear(WIDTH, KV_HEADS * HEAD, True) for _ in "kv")
        self.gate, self.up, self.down = Linear(WIDTH, FORWARD), Linear(WIDTH, FORWARD), Linear(FORWARD, WIDTH)

    def forward(self, x):
        n = norm(x, self.attn_norm)
        q, k, v = (linear(n).view(ROWS, -1, HEAD).transpose(0, 1) for linear in (self.q, self.k, self.v))
        q, k = rope(q), rope(k)
        # Heads that share a KV head go through one product, which is faster than to repeat that.
        scores = torch.matmul(q.reshape(KV_HEADS, GROUP * ROWS, HEAD) / math.sqrt(HEAD), k.transpose(1, 2))
        p = torch.softmax(scores.view(HEADS, ROWS, ROWS) + MASK, -1)
        seen = torch.matmul(p.view(KV_HEADS, GROUP * ROWS, ROWS), v).view(HEADS, ROWS, HEAD)
        x = x + self.o(seen.transpose(0, 1).reshape(ROWS, WIDTH))
        n = norm(x, self.ffn_norm)
        return x + self.down(F.silu(self.gate(n)) * self.up(n))


def step(embedding, layers, optimizer, tokens):
    x = embedding[tokens[:-1]].requires_grad_()
    for layer in layers:
        x = checkpoint(layer, x, use_reentrant=True)
    F.cross_entropy(F.linear(norm(x, torch.ones(WIDTH)), embedding), tokens[1:]).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    torch.set_flush_denormal(True)
    embedding = torch.randn(VOCAB, WIDTH) * 0.02
    layers = nn.ModuleList(Layer() for _ in range(LAYERS))
    optimizer = torch.optim.AdamW(layers.parameters(), lr=1e-4, foreach=True)
    tokens = torch.randint(VOCAB, (ROWS + 1,))
    speeds = []
    for _ in range(STEPS):
        began = time.perf_counter()
        step(embedding, layers, optimizer, tokens)
        speeds.append(ROWS / (time.perf_counter() - began))
    with open("/proc/self/maps") as maps:
        blas = sorted({line.split()[-1] for line in maps if "blas" in line})
    print(json.dumps({"tokens_per_second": speeds, "torch": torch.__version__, "blas": blas}))


main()

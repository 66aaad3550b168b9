"""The Llama forward pass in plain PyTorch: what train.py fits and reference.py runs.

Names and shapes are those of Hugging Face's LlamaForCausalLM (less the `model.` prefix), so that
export.py only has to write the tensors down.
"""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 2048,
    "max_position_embeddings": 1024,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-05,
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0.0,
    "tie_word_embeddings": True,
    "initializer_range": 0.02,
    "bos_token_id": 1,
    "eos_token_id": 4,
    "pad_token_id": None,
    "torch_dtype": "bfloat16",
    "use_cache": True,
}


def int8_linear(x, w):
    """What a W8A8 engine computes: int8 weights with one scale per output channel, int8
    activations with one scale per token, both symmetric."""
    ws = w.abs().amax(1, keepdim=True).clamp_min(1e-8) / 127
    xs = x.abs().amax(-1, keepdim=True).clamp_min(1e-8) / 127
    return F.linear(torch.round(x / xs), torch.round(w / ws)) * xs * ws.squeeze(1)


class Linear(nn.Linear):
    int8 = False  # class-wide switch, set by reference.py to score the quantized model

    def __init__(self, n_in, n_out):
        super().__init__(n_in, n_out, bias=False)

    def forward(self, x):
        return int8_linear(x, self.weight) if Linear.int8 else F.linear(x, self.weight)


class RMSNorm(nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def rope_table(cfg):
    half = cfg["head_dim"] // 2
    freq = cfg["rope_theta"] ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(cfg["max_position_embeddings"], dtype=torch.float64)[:, None] * freq
    return torch.cat([angle.cos()] * 2, 1).float(), torch.cat([angle.sin()] * 2, 1).float()


def rotate(x, cos, sin):
    """Hugging Face's half-split layout: dimension i is paired with i + head_dim / 2."""
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


class Attention(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.heads, self.kv = cfg["num_attention_heads"], cfg["num_key_value_heads"]
        self.dim = cfg["head_dim"]
        hidden = cfg["hidden_size"]
        self.q_proj = Linear(hidden, self.heads * self.dim)
        self.k_proj = Linear(hidden, self.kv * self.dim)
        self.v_proj = Linear(hidden, self.kv * self.dim)
        self.o_proj = Linear(self.heads * self.dim, hidden)

    def forward(self, x, cos, sin, cache):
        b, t, _ = x.shape
        q = rotate(self.q_proj(x).view(b, t, self.heads, self.dim).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(x).view(b, t, self.kv, self.dim).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(b, t, self.kv, self.dim).transpose(1, 2)
        if cache is not None:
            if cache:
                k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
            cache[:] = [k, v]
        n = k.shape[2]
        # One batched product per KV head: its query heads are stacked along the rows.
        q = (q * self.dim ** -0.5).reshape(b * self.kv, -1, self.dim)
        scores = torch.bmm(q, k.reshape(b * self.kv, n, self.dim).transpose(1, 2))
        mask = torch.full((t, n), -1e9).triu_(n - t + 1)
        scores = scores.view(b * self.kv, -1, t, n).float() + mask
        p = scores.softmax(-1).to(v.dtype).view(b * self.kv, -1, n)
        y = torch.bmm(p, v.reshape(b * self.kv, n, self.dim))
        return self.o_proj(y.view(b, self.heads, t, self.dim).transpose(1, 2).reshape(b, t, -1))


class MLP(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.gate_proj = Linear(cfg["hidden_size"], cfg["intermediate_size"])
        self.up_proj = Linear(cfg["hidden_size"], cfg["intermediate_size"])
        self.down_proj = Linear(cfg["intermediate_size"], cfg["hidden_size"])

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.input_layernorm = RMSNorm(cfg["hidden_size"], cfg["rms_norm_eps"])
        self.self_attn = Attention(cfg)
        self.post_attention_layernorm = RMSNorm(cfg["hidden_size"], cfg["rms_norm_eps"])
        self.mlp = MLP(cfg)

    def forward(self, x, cos, sin, cache):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    def __init__(self, cfg=CONFIG):
        super().__init__()
        self.embed_tokens = nn.Embedding(cfg["vocab_size"], cfg["hidden_size"])
        self.layers = nn.ModuleList(Layer(cfg) for _ in range(cfg["num_hidden_layers"]))
        self.norm = RMSNorm(cfg["hidden_size"], cfg["rms_norm_eps"])
        self.cos, self.sin = rope_table(cfg)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                deep = name.endswith(("o_proj.weight", "down_proj.weight"))
                scale = 1 / math.sqrt(2 * cfg["num_hidden_layers"]) if deep else 1
                nn.init.normal_(p, std=0.03 * scale)

    def hidden(self, ids, caches=None):
        start = caches[0][0].shape[2] if caches and caches[0] else 0
        cos, sin = (t[start:start + ids.shape[1]] for t in (self.cos, self.sin))
        x = self.embed_tokens(ids)
        for i, layer in enumerate(self.layers):
            x = layer(x, cos, sin, caches[i] if caches else None)
        return self.norm(x)

    def logits(self, h):
        w = self.embed_tokens.weight
        return int8_linear(h, w) if Linear.int8 else F.linear(h, w)

    @torch.no_grad()
    def generate(self, ids, limit, stop=()):
        """Greedy decoding of one sequence."""
        caches, out = [[] for _ in self.layers], []
        step = torch.tensor([ids])
        while len(out) < limit:
            token = int(self.logits(self.hidden(step, caches)[0, -1]).argmax())
            if token in stop:
                break
            out.append(token)
            step = torch.tensor([[token]])
        return out

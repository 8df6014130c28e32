"""PyTorch's speed on the reference training step, for comparison with the embedded engine.

Model: Llama shape, 6 layers, width 384, 6 heads of 64, SwiGLU 1024, vocabulary 512 with a head of its own,
11 M parameters. Step: forward, cross-entropy, backward, AdamW on 8 sequences of 256 random tokens (2,048).
Two implementations, so that PyTorch is met at its best: `hf` is transformers' LlamaForCausalLM with sdpa
attention; `lean` is a short module with joined projections. Each in float32, bfloat16 by autocast, and with
bfloat16 weights. Cases are interleaved round by round. Prints JSON lines: median and best over the bursts.

Usage: python bench/peers/train_torch.py [--threads 2] [--bursts 7] [--cases hf-f32,lean-f32] [--compile]
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable

try:
    import torch
    import torch.nn.functional as F
    import transformers
    from torch import nn
    from transformers import LlamaConfig, LlamaForCausalLM
except ImportError as error:
    sys.exit(f"missing Python package: {error.name}. Install: pip install torch==2.13.0 transformers==5.17.0")

LAYERS, WIDTH, HEADS, HEAD, HIDDEN, VOCABULARY = 6, 384, 6, 64, 1024, 512
BATCH, LENGTH = 8, 256
MATMUL = 1024
DEFAULT_CASES = "matmul-f32,hf-f32,lean-f32,hf-bf16-autocast,lean-bf16-autocast,hf-bf16-weights,lean-bf16-weights"
# A case whose single step takes longer than this is timed by its warm-up steps only.
SLOW_SECONDS = 15.0


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention_norm = nn.RMSNorm(WIDTH, eps=1e-5)
        self.qkv = nn.Linear(WIDTH, 3 * HEADS * HEAD, bias=False)
        self.out = nn.Linear(HEADS * HEAD, WIDTH, bias=False)
        self.mlp_norm = nn.RMSNorm(WIDTH, eps=1e-5)
        self.gate_up = nn.Linear(WIDTH, 2 * HIDDEN, bias=False)
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x_BTC, cos, sin):
        B, T, _ = x_BTC.shape
        qkv = self.qkv(self.attention_norm(x_BTC)).view(B, T, 3 * HEADS, HEAD).transpose(1, 2)
        qk, v = qkv.split((2 * HEADS, HEADS), dim=1)
        low, high = qk.chunk(2, dim=-1)
        q, k = torch.cat((low * cos - high * sin, high * cos + low * sin), -1).to(v.dtype).split(HEADS, dim=1)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x_BTC = x_BTC + self.out(attended.transpose(1, 2).reshape(B, T, HEADS * HEAD))
        gate, up = self.gate_up(self.mlp_norm(x_BTC)).chunk(2, dim=-1)
        return x_BTC + self.down(F.silu(gate) * up)


class Lean(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.RMSNorm(WIDTH, eps=1e-5)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        angles = torch.arange(LENGTH)[:, None] * 10_000.0 ** (-torch.arange(0, HEAD, 2) / HEAD)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, tokens_BT):
        x_BTC = self.embedding(tokens_BT)
        for block in self.blocks:
            x_BTC = block(x_BTC, self.cos, self.sin)
        return self.head(self.norm(x_BTC))


def make_transformers_model() -> nn.Module:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=HEAD,
        intermediate_size=HIDDEN,
        max_position_embeddings=1024,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=False,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config)


def make_step(case: str) -> Callable[[], None]:
    """One training step of a case such as `lean-bf16-autocast` or `hf-f32-compile`."""
    implementation, *rest = case.split("-")
    dtype = "-".join(word for word in rest if word != "compile")
    torch.manual_seed(0)
    model = (make_transformers_model() if implementation == "hf" else Lean()).train()
    if dtype == "bf16-weights":
        model = model.to(torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    tokens = torch.randint(0, VOCABULARY, (BATCH, LENGTH + 1))
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def loss_of() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16-autocast"):
            logits = model(inputs, use_cache=False).logits if implementation == "hf" else model(inputs)
            return F.cross_entropy(logits.view(-1, VOCABULARY).float(), targets.view(-1))

    compute = torch.compile(loss_of) if "compile" in rest else loss_of

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        compute().backward()
        optimizer.step()

    return step


def make_matmul(case: str) -> Callable[[], None]:
    dtype = torch.float32 if case.endswith("f32") else torch.bfloat16
    a, b, c = (torch.randn(MATMUL, MATMUL).to(dtype) for _ in range(3))
    return lambda: torch.mm(a, b, out=c)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time PyTorch on the reference training step.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bursts", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="training steps in a burst")
    parser.add_argument("--cases", default=DEFAULT_CASES)
    parser.add_argument("--compile", action="store_true", help="also time each training case through torch.compile")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    cases = options.cases.split(",")
    if options.compile:
        cases += [f"{case}-compile" for case in cases if not case.startswith("matmul")]
    steps, rates = {}, {case: [] for case in cases}
    work, repeats, unit = {}, {}, {}
    for case in cases:
        matmul = case.startswith("matmul")
        steps[case] = make_matmul(case) if matmul else make_step(case)
        work[case] = 2 * MATMUL**3 / 1e9 if matmul else BATCH * LENGTH
        repeats[case] = 10 if matmul else options.steps
        unit[case] = "GFLOP/s" if matmul else "tokens/s"
        for _ in range(2):
            start = time.perf_counter()
            steps[case]()
            seconds = time.perf_counter() - start
        if seconds > SLOW_SECONDS:
            rates[case].append(work[case] / seconds)
            repeats[case] = 0
    for _ in range(options.bursts):
        for case in cases:
            if repeats[case] == 0:
                continue
            start = time.perf_counter()
            for _ in range(repeats[case]):
                steps[case]()
            rates[case].append(repeats[case] * work[case] / (time.perf_counter() - start))

    for case in cases:
        line = {
            "bench": "train-step",
            "case": f"torch-{case}",
            "value": round(statistics.median(rates[case]), 1),
            "best": round(max(rates[case]), 1),
            "unit": unit[case],
            "threads": options.threads,
            "bursts": len(rates[case]),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "load1m": round(os.getloadavg()[0], 2),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()

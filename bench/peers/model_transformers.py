"""transformers' and PEFT's speed on a whole model, for comparison with `npm run bench -- model`.

The cases are those of bench/model-case.ts: a prompt of 512 tokens; decoding at batch 1, 8 and 64 after prompts of
64 tokens; LoRA training (rank 16, alpha 32, all linear layers, adapters in float32) on 4 sequences of 256 tokens,
every token in the loss, AdamW. transformers is met at its best: sdpa attention, logits of the last token alone for
a prompt, a plain decoding loop in place of `generate`, the faster of its growing and its preallocated cache; in
training no gradient checkpointing, and the faster of 1 and 4 sequences at a time. Decoding is greedy. Speeds are
medians. Prints JSON lines.

Usage: python bench/peers/model_transformers.py --model DIR [--dtype f32|bf16] [--threads 2]
       [--cases prefill,decode,lora] [--quick]
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

try:
    import peft
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, DynamicCache, StaticCache
except ImportError as error:
    sys.exit(
        f"missing Python package: {error.name}. Install: pip install torch==2.13.0 transformers==5.17.0 peft==0.21.0"
    )

PROMPT = 512
DECODE_PROMPT, DECODE_STEPS, BATCHES = 16, 12, (1, 8, 64)
SEQUENCES, LENGTH, MICRO_BATCHES = 4, 256, (1, 4)


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def draw(vocabulary: int, rows: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, vocabulary, (rows, length), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def prefill(model, rounds: int) -> dict:
    def run(seed: int) -> None:
        tokens = draw(model.config.vocab_size, 1, PROMPT, seed)
        model(tokens, past_key_values=DynamicCache(config=model.config), logits_to_keep=1)

    run(0)
    return {"value": PROMPT / statistics.median(timed(lambda: run(n + 1)) for n in range(rounds))}


@torch.inference_mode()
def decode(model, batch: int, steps: int) -> dict:
    """A step computes one token of each row. Every row has the same prompt, computed once."""
    row = DynamicCache(config=model.config)
    last = model(draw(model.config.vocab_size, 1, DECODE_PROMPT), past_key_values=row, logits_to_keep=1).logits

    def measure(cache) -> float:
        for n, layer in enumerate(row.layers):
            cache.update(layer.keys.repeat(batch, 1, 1, 1), layer.values.repeat(batch, 1, 1, 1), n)
        tokens = last[:, -1].argmax(-1, keepdim=True).repeat(batch, 1)
        seconds = []
        for _ in range(steps + 1):
            start = time.perf_counter()
            tokens = model(tokens, past_key_values=cache).logits[:, -1].argmax(-1, keepdim=True)
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds[1:])

    seconds = {
        "dynamic": measure(DynamicCache(config=model.config)),
        "static": measure(StaticCache(config=model.config, max_cache_len=DECODE_PROMPT + steps + 1)),
    }
    cache = min(seconds, key=seconds.get)
    return {"value": batch / seconds[cache], "cache": cache, "steps": steps}


def train(model, sequences: int) -> dict:
    settings = peft.LoraConfig(
        r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    adapted = peft.get_peft_model(model, settings).train()
    trained = [p for p in adapted.parameters() if p.requires_grad]
    assert all(p.dtype == torch.float32 for p in trained)
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0)
    tokens = draw(model.config.vocab_size, sequences, LENGTH)

    def step(tokens: torch.Tensor, micro_batch: int) -> None:
        for part in tokens.split(micro_batch):
            loss = adapted(part, labels=part, use_cache=False).loss
            (loss * len(part) / len(tokens)).backward()
        optimizer.step()
        optimizer.zero_grad()

    step(tokens[:1], 1)
    seconds = {size: [timed(lambda: step(tokens, size))] for size in MICRO_BATCHES if size <= sequences}
    micro_batch = min(seconds, key=lambda size: seconds[size][0])
    if sequences == SEQUENCES:
        seconds[micro_batch].append(timed(lambda: step(tokens, micro_batch)))
    rates = [tokens.numel() / each for each in seconds[micro_batch]]
    return {"value": statistics.median(rates), "microBatch": micro_batch, "steps": len(rates)}


def peak_gib() -> float:
    """Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time transformers and PEFT on a model directory.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cases", default="prefill,decode,lora")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and one sequence of training")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    version = ".".join(transformers.__version__.split(".")[:2])
    cases = options.cases.split(",")

    def emit(what: str, unit: str, value: float, **details) -> None:
        line = {
            "bench": "model",
            "case": f"transformers {version} {options.dtype} {options.threads} threads, {what},",
            "value": round(value, 3),
            "unit": unit,
            **details,
            "torch": torch.__version__,
            "peft": peft.__version__,
            "load1m": round(os.getloadavg()[0], 2),
        }
        print(json.dumps(line), flush=True)

    start = time.perf_counter()
    dtype = torch.float32 if options.dtype == "f32" else torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype, attn_implementation="sdpa").eval()
    emit("load", "s", time.perf_counter() - start)
    if "prefill" in cases:
        emit("prefill", "tokens/s", **prefill(model, rounds=1 if options.quick else 3))
    if "decode" in cases:
        for batch in BATCHES:
            emit(f"decode {batch}", "tokens/s", **decode(model, batch, steps=3 if options.quick else DECODE_STEPS))
    emit("peak resident memory, sampling", "GiB", peak_gib())
    if "lora" in cases:
        emit("lora", "tokens/s", **train(model, sequences=1 if options.quick else SEQUENCES))
        emit("peak resident memory, training", "GiB", peak_gib())


if __name__ == "__main__":
    main()

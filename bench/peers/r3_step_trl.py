"""TRL's speed on one Reflect-Retry-Reward step, for comparison with `npm run bench -- r3-step`.

A step is 8 groups of 8 reflections of 48 tokens on prompts of 160 tokens, one retry of 32 tokens for each
reflection (context: prompt, reflection, a bridge of 24 tokens), then the GRPO loss over the reflection tokens
with a KL term, backward and AdamW. The trainer is TRL's GRPOTrainer; the retry is a `model.generate` with the
whole context inside the reward function, as in the paper's extension of TRL. Model: that of train_torch.py,
random weights; the tokenizer is a word list. With `--shape` it is that of a published model with a LoRA adapter
(rank 16, alpha 32, all linear layers), and longer. TRL is met at its best, not at its defaults: no gradient
checkpointing (its default is on), sdpa attention, KV cache, one generation batch. Prints JSON lines.

Usage: python bench/peers/r3_step_trl.py [--threads 2] [--steps 4] [--dtype f32] [--micro-batch 64]
       [--continuous-batching] [--shape qwen2.5-0.5b] [--groups 8] [--generations 8] [--prompt 160]
       [--reflection 48] [--bridge 24] [--retry 32]
"""

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

try:
    import torch
    import transformers
    import trl
    from datasets import Dataset
    from peft import LoraConfig
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        AutoModelForCausalLM,
        GenerationConfig,
        LlamaConfig,
        PreTrainedConfig,
        PreTrainedTokenizerFast,
        Qwen2Config,
        TrainerCallback,
    )
    from trl import GRPOConfig, GRPOTrainer
except ImportError as error:
    sys.exit(
        f"missing Python package: {error.name}. "
        "Install: pip install torch==2.13.0 transformers==5.17.0 trl==1.13.0 peft==0.21.0"
    )

PAD, BOS, EOS = 0, 1, 2
# Sizes of a step and sequences in one forward and backward pass, by shape: no more than fit 16 GB without checkpointing.
DEFAULTS = {
    None: dict(groups=8, generations=8, prompt=160, reflection=48, bridge=24, retry=32, micro_batch=64),
    "qwen2.5-0.5b": dict(groups=4, generations=8, prompt=300, reflection=96, bridge=40, retry=64, micro_batch=4),
}


class PhaseClock:
    """Seconds by phase, summed over the calls of one optimizer step."""

    def __init__(self):
        self.seconds = defaultdict(float)

    @contextmanager
    def phase(self, name: str):
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start

    def take(self) -> dict[str, float]:
        taken, self.seconds = dict(self.seconds), defaultdict(float)
        return taken


class TimedTrainer(GRPOTrainer):
    clock = PhaseClock()

    def _generate(self, *args, **kwargs):
        with self.clock.phase("generation"):
            return super()._generate(*args, **kwargs)

    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        with self.clock.phase("forward-with-gradient" if torch.is_grad_enabled() else "reference-logprobs"):
            return super()._get_per_token_logps_and_entropies(*args, **kwargs)


class StepTimes(TrainerCallback):
    """The time from the end of one optimizer step to the end of the next: everything is inside."""

    def __init__(self):
        self.rows = []
        self.last = time.perf_counter()

    def on_train_begin(self, *_args, **_kwargs):
        self.last = time.perf_counter()

    def on_step_end(self, *_args, **_kwargs):
        now = time.perf_counter()
        phases = TimedTrainer.clock.take()
        phases["backward-optimizer-rest"] = now - self.last - sum(phases.values())
        self.rows.append({"step": now - self.last, **phases})
        self.last = now


def make_config(shape: str | None) -> PreTrainedConfig:
    special = dict(pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS)
    if shape == "qwen2.5-0.5b":
        return Qwen2Config(
            vocab_size=151_936,
            hidden_size=896,
            num_hidden_layers=24,
            num_attention_heads=14,
            num_key_value_heads=2,
            intermediate_size=4864,
            max_position_embeddings=32_768,
            rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
            tie_word_embeddings=True,
            **special,
        )
    return LlamaConfig(
        vocab_size=512,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        head_dim=64,
        intermediate_size=1024,
        max_position_embeddings=1024,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=False,
        **special,
    )


def make_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    words = {"<pad>": PAD, "<bos>": BOS, "<eos>": EOS, "<unk>": 3} | {f"w{i}": i for i in range(4, vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )


def make_retry_reward(holder: dict, vocabulary: int, options: argparse.Namespace):
    """Reward 1 if the retry passes. The check is a coin that depends on the retry's tokens only."""
    generator = torch.Generator().manual_seed(7)
    bridge = torch.randint(4, vocabulary, (options.bridge,), generator=generator).tolist()
    settings = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        min_new_tokens=options.retry,
        max_new_tokens=options.retry,
        use_cache=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )

    def retry_reward(prompts, completion_ids, **_columns) -> list[float]:
        trainer = holder["trainer"]
        with TimedTrainer.clock.phase("retry"), torch.no_grad():
            prompt_ids = trainer.processing_class(prompts, add_special_tokens=False)["input_ids"]
            assert all(len(ids) == options.prompt for ids in prompt_ids)
            assert all(len(ids) == options.reflection for ids in completion_ids)
            context = torch.tensor([p + c + bridge for p, c in zip(prompt_ids, completion_ids)])
            model = trainer.accelerator.unwrap_model(trainer.model)
            output = model.generate(context, attention_mask=torch.ones_like(context), generation_config=settings)
            retries = output[:, context.shape[1] :]
            assert retries.shape[1] == options.retry
            return [float(sum(tokens) % 2) for tokens in retries.tolist()]

    return retry_reward


def peak_gib() -> float:
    """Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time TRL on one Reflect-Retry-Reward step.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, help="timed steps (default 4, with --shape 1)")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="bf16 is TRL's bf16=True (autocast)")
    parser.add_argument("--shape", choices=[name for name in DEFAULTS if name], help="a published shape, with LoRA")
    parser.add_argument("--continuous-batching", action="store_true", help="transformers' paged generation")
    for name in DEFAULTS[None]:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int)
    options = parser.parse_args()
    for name, value in DEFAULTS[options.shape].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    # A first step is slower: memory is new. That matters little where a step takes minutes.
    warm_ups = 0 if options.shape else 1
    steps = warm_ups + (options.steps or (1 if options.shape else 4))
    completions = options.groups * options.generations
    micro_batch = min(options.micro_batch, completions)
    assert completions % micro_batch == 0, "the micro-batch divides the completions"
    model_config = make_config(options.shape)
    vocabulary = model_config.vocab_size
    generator = torch.Generator().manual_seed(1)
    words = torch.randint(4, vocabulary, (options.groups * steps, options.prompt), generator=generator).tolist()
    dataset = Dataset.from_dict({"prompt": [" ".join(f"w{i}" for i in row) for row in words]})
    # Frozen weights are bf16 themselves; trained ones stay f32 beside autocast.
    dtype = torch.bfloat16 if options.shape and options.dtype == "bf16" else torch.float32
    adapter = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    times, holder = StepTimes(), {}

    with tempfile.TemporaryDirectory() as directory:
        AutoModelForCausalLM.from_config(model_config, dtype=dtype).save_pretrained(directory)
        config = GRPOConfig(
            output_dir=directory + "/out",
            use_cpu=True,
            bf16=options.dtype == "bf16",
            model_init_kwargs={"dtype": dtype, "attn_implementation": "sdpa"},
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=completions // micro_batch,
            num_generations=options.generations,
            max_completion_length=options.reflection,
            generation_kwargs={"min_new_tokens": options.reflection, "use_cache": True},
            use_transformers_continuous_batching=options.continuous_batching,
            temperature=1.0,
            loss_type="grpo",
            beta=0.001,
            use_bias_correction_kl=False,
            learning_rate=5e-7,
            max_steps=steps,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            seed=0,
        )
        trainer = TimedTrainer(
            model=directory,
            reward_funcs=make_retry_reward(holder, vocabulary, options),
            args=config,
            train_dataset=dataset,
            processing_class=make_tokenizer(vocabulary),
            callbacks=[times],
            peft_config=adapter if options.shape else None,
        )
        holder["trainer"] = trainer
        # With an adapter the reference is the same model without it.
        assert (trainer.ref_model is None) == bool(options.shape) and not trainer.model.is_gradient_checkpointing
        trained = [p for p in trainer.model.parameters() if p.requires_grad]
        before = [p.detach().clone() for p in trained]
        if options.shape:
            with torch.no_grad():
                trainer.model(torch.randint(4, vocabulary, (1, 8)))
        trainer.train()
        assert any((a != b).any() for a, b in zip(before, trained)), "no weight moved"

    rows = times.rows[warm_ups:]
    line = {
        "bench": "r3-step",
        "case": f"trl-{options.dtype}" + (f"-{options.shape}" if options.shape else "") + ("-continuous" if options.continuous_batching else ""),
        "value": round(statistics.median(row["step"] for row in rows), 3),
        "best": round(min(row["step"] for row in rows), 3),
        "unit": "seconds/step",
        "phases": {name: round(statistics.median(row.get(name, 0) for row in rows), 3) for name in rows[0]},
        "peakGiB": round(peak_gib(), 2),
        "completions": completions,
        "microBatch": micro_batch,
        "threads": options.threads,
        "steps": len(rows),
        "trl": trl.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "load1m": round(os.getloadavg()[0], 2),
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()

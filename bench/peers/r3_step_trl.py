"""TRL's speed on one Reflect-Retry-Reward step, for comparison with `r3 train`.

A step is 8 groups of 8 reflections of 48 tokens on prompts of 160 tokens, one retry of 32 tokens for each
reflection (context: prompt, reflection, a bridge of 24 tokens), then the GRPO loss over the reflection tokens
with a KL term, backward and AdamW. The trainer is TRL's GRPOTrainer; the retry is a `model.generate` with the
whole context inside the reward function, as in the paper's extension of TRL. Model: that of train_torch.py,
random weights; the tokenizer is a word list. TRL is met at its best, not at its defaults: no gradient
checkpointing (its default is on), sdpa attention, KV cache, one generation batch of 64. Prints JSON lines.

Usage: python bench/peers/r3_step_trl.py [--threads 2] [--steps 4] [--dtype f32] [--micro-batch 64]
       [--continuous-batching] [--groups 8]
"""

import argparse
import json
import os
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
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer
except ImportError as error:
    sys.exit(
        f"missing Python package: {error.name}. Install: pip install torch==2.13.0 transformers==5.17.0 trl==1.13.0"
    )

VOCABULARY = 512
GENERATIONS, PROMPT, REFLECTION, BRIDGE, RETRY = 8, 160, 48, 24, 32
PAD, BOS, EOS = 0, 1, 2


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


def make_tokenizer() -> PreTrainedTokenizerFast:
    words = {"<pad>": PAD, "<bos>": BOS, "<eos>": EOS, "<unk>": 3} | {f"w{i}": i for i in range(4, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )


def make_model_directory(directory: str) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
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
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    LlamaForCausalLM(config).save_pretrained(directory)


def make_retry_reward(holder: dict):
    """Reward 1 if the retry passes. The check is a coin that depends on the retry's tokens only."""
    generator = torch.Generator().manual_seed(7)
    bridge = torch.randint(4, VOCABULARY, (BRIDGE,), generator=generator).tolist()
    settings = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        min_new_tokens=RETRY,
        max_new_tokens=RETRY,
        use_cache=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )

    def retry_reward(prompts, completion_ids, **_columns) -> list[float]:
        trainer = holder["trainer"]
        with TimedTrainer.clock.phase("retry"), torch.no_grad():
            prompt_ids = trainer.processing_class(prompts, add_special_tokens=False)["input_ids"]
            assert all(len(p) == PROMPT and len(c) == REFLECTION for p, c in zip(prompt_ids, completion_ids))
            context = torch.tensor([p + c + bridge for p, c in zip(prompt_ids, completion_ids)])
            model = trainer.accelerator.unwrap_model(trainer.model)
            output = model.generate(context, attention_mask=torch.ones_like(context), generation_config=settings)
            retries = output[:, context.shape[1] :]
            assert retries.shape[1] == RETRY
            return [float(sum(tokens) % 2) for tokens in retries.tolist()]

    return retry_reward


def main() -> None:
    parser = argparse.ArgumentParser(description="Time TRL on one Reflect-Retry-Reward step.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4, help="timed steps, after one warm-up step")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="bf16 is TRL's bf16=True (autocast)")
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--micro-batch", type=int, default=64, help="sequences in one forward and backward pass")
    parser.add_argument("--continuous-batching", action="store_true", help="transformers' paged generation")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()

    completions = options.groups * GENERATIONS
    micro_batch = min(options.micro_batch, completions)
    generator = torch.Generator().manual_seed(1)
    steps = options.steps + 1
    words = torch.randint(4, VOCABULARY, (options.groups * steps, PROMPT), generator=generator).tolist()
    dataset = Dataset.from_dict({"prompt": [" ".join(f"w{i}" for i in row) for row in words]})
    times, holder = StepTimes(), {}

    with tempfile.TemporaryDirectory() as directory:
        make_model_directory(directory)
        config = GRPOConfig(
            output_dir=directory + "/out",
            use_cpu=True,
            bf16=options.dtype == "bf16",
            model_init_kwargs={"dtype": "float32", "attn_implementation": "sdpa"},
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=completions // micro_batch,
            num_generations=GENERATIONS,
            max_completion_length=REFLECTION,
            generation_kwargs={"min_new_tokens": REFLECTION, "use_cache": True},
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
            reward_funcs=make_retry_reward(holder),
            args=config,
            train_dataset=dataset,
            processing_class=make_tokenizer(),
            callbacks=[times],
        )
        holder["trainer"] = trainer
        assert trainer.ref_model is not None and not trainer.model.is_gradient_checkpointing
        before = [p.detach().clone() for p in trainer.model.parameters()]
        trainer.train()
        assert any((a != b).any() for a, b in zip(before, trainer.model.parameters())), "no weight moved"

    rows = times.rows[1:]
    line = {
        "bench": "r3-step",
        "case": f"trl-{options.dtype}" + ("-continuous" if options.continuous_batching else ""),
        "value": round(statistics.median(row["step"] for row in rows), 3),
        "best": round(min(row["step"] for row in rows), 3),
        "unit": "seconds/step",
        "phases": {name: round(statistics.median(row.get(name, 0) for row in rows), 3) for name in rows[0]},
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

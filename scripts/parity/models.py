"""The Python side of `npm run parity` (scripts/parity/models.ts).

  models.py make --seed N --out DIR [--only NAME ...]   fresh models in the layout of test/fixtures/families
  models.py check DIR                                   what this project saved in DIR/ours, in transformers and PEFT

`make` varies the shapes of scripts/fixtures/families.py with the seed, so that nothing can be tuned to the committed
ones. `check` compares each folder DIR/ours/NAME or DIR/ours/NAME+WHAT, a model, or an adapter of DIR/NAME, with what
the engine computed with it, in the JSON file beside it. It prints a line of JSON for each: {"name", "what",
"deviation", "greedy"}: the largest difference of log-probabilities over the largest logit, and whether the greedy
tokens are equal.
"""

import argparse
import copy
import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))
import families  # noqa: E402  (says which packages are missing)
import torch  # noqa: E402
from peft import PeftModel  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

# Two likeliest logits closer than this may change places with the order of a sum.
CLOSE = 1e-3


def vary(entry: dict, rng: random.Random) -> dict:
    """The same family with other sizes. Fields that a family leaves out stay out."""
    entry = copy.deepcopy(entry)
    config = entry["config"]
    config["vocab_size"] = rng.randrange(80, 161)
    config["intermediate_size"] = 8 * rng.randrange(4, 10)
    config["num_key_value_heads"] = rng.choice([1, 2, 4])
    if "head_dim" in config:
        config["head_dim"] = rng.choice([16, 32])
    if config.get("sliding_window") is not None:
        config["sliding_window"] = rng.randrange(4, 17)
    if "rope_parameters" not in config:
        config["rope_parameters"] = {"rope_type": "default", "rope_theta": float(rng.randrange(5_000, 1_000_000))}
    return entry


def make(seed: int, out: Path, only: list[str]) -> None:
    for index, (name, entry) in enumerate(families.MODELS.items()):
        if name in only:
            rng = random.Random(f"{seed} {name}")
            families.write_entry(name, vary(entry, rng), out, first_seed=seed * 10_000 + 100 * index)


@torch.no_grad()
def compare(model, sequences: list[list[int]], prompt: list[int], ours: dict) -> dict:
    logits, logprobs, _ = families.forward(model, sequences)
    scale = max(rows.abs().max().item() for rows in logits)
    difference = max((torch.tensor(row) - t).abs().max().item() for row, t in zip(ours["logprobs"], logprobs))
    tokens, gap = families.greedy(model, prompt)
    return {"deviation": difference / scale, "greedy": tokens == ours["greedy"] or gap < CLOSE}


def check(out: Path) -> None:
    for path in sorted((out / "ours").glob("*.json")):
        name, _, what = path.stem.partition("+")
        expected = json.loads((out / name / "expected.json").read_text())
        saved = path.with_suffix("")
        is_adapter = (saved / "adapter_config.json").exists()
        model = AutoModelForCausalLM.from_pretrained(
            out / name if is_adapter else saved, attn_implementation="eager", dtype=torch.float32
        )
        if is_adapter:
            model = PeftModel.from_pretrained(model, saved)
        ours = json.loads(path.read_text())
        result = compare(model.eval(), expected["sequences"], expected["greedy"]["prompt"], ours)
        print(json.dumps({"name": name, "what": what} | result))


def main() -> None:
    parser = argparse.ArgumentParser(description="Fresh random models of every family, and checks of ours.")
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("--seed", type=int, required=True)
    making.add_argument("--out", type=Path, required=True)
    making.add_argument("--only", nargs="+", choices=families.MODELS, default=list(families.MODELS))
    commands.add_parser("check").add_argument("out", type=Path)
    arguments = parser.parse_args()
    families.quiet()
    torch.set_num_threads(1)
    if arguments.command == "make":
        make(arguments.seed, arguments.out, arguments.only)
    else:
        check(arguments.out)


if __name__ == "__main__":
    main()

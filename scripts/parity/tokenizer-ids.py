"""
Token ids of texts by Python tokenizers, for every model folder below a folder.

Writes one JSON line for each text: {"tokenizer", "text", "ids", "decoded", "plain", "withSpecials"}; `plain` leaves special
tokens out. Texts: every string in the .jsonl and .json files below TEXTS (a sample of each), and random Unicode made
with a fixed seed. Run by tokenizers.ts; `python tokenizer-ids.py FOLDER TEXTS COUNT` with tokenizers 0.23 and transformers 5.17.
"""

import json
import pathlib
import random
import sys

import tokenizers
from transformers import PreTrainedTokenizerFast

LONG = 4000


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from strings(each)


def found(folder, count, rng):
    """At most `count` strings of each file."""
    for path in sorted(pathlib.Path(folder).rglob("*.json*")):
        if path.suffix not in (".jsonl", ".json") or "tokenizers" in path.parts:
            continue
        try:
            texts = [text for line in path.open(encoding="utf-8") if line.strip() for text in strings(json.loads(line))]
        except ValueError:
            continue
        for text in rng.sample(texts, min(count, len(texts))):
            yield text[:LONG]


RANGES = [(0x20, 0x7E), (0x20, 0x7E), (0x09, 0x0D), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F), (0x1100, 0x11FF), (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x2BFF), (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xE0FF), (0xFB00, 0xFFFD), (0x1D400, 0x1D7FF), (0x1F1E6, 0x1F1FF), (0x1F300, 0x1FAFF), (0x20000, 0x2A6DF), (0x0, 0x10FFFF)]
PIECES = [" ", "  ", "\n", "\n\n", "\r\n", "\t", "'s", "'LL", "\u2019s", "don't", "123", "4567890", "e\u0301", "\u00e9", "\u1112\u1161\u11ab", "\ufb01", "\u2126", "\u200d", "\ufe0f", "1,000.5", "word", " word", "Word", "\u2581", "<0x0A>", "\ufeff", "\u0130", "\u0085", "\u180e", "\x1c", "\u3000"]


def made(count, added, rng):
    for _ in range(count):
        parts = []
        for _ in range(rng.randint(1, 12)):
            kind = rng.random()
            if kind < 0.35:
                low, high = rng.choice(RANGES)
                code = [rng.randint(low, high) for _ in range(rng.randint(1, 6))]
                parts.append("".join(chr(c) for c in code if not 0xD800 <= c <= 0xDFFF))
            elif kind < 0.8 or not added:
                parts.append(rng.choice(PIECES))
            else:
                parts.append(rng.choice(added))
        yield "".join(parts)


def main():
    folder, texts, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    for path in sorted(pathlib.Path(folder).glob("*/tokenizer.json")):
        rng = random.Random(7)
        library = tokenizers.Tokenizer.from_file(str(path))
        library.no_truncation()
        library.no_padding()
        config = path.parent / "tokenizer_config.json"
        more = json.loads(config.read_text(encoding="utf-8")) if config.exists() else {}
        known = {token.content for token in library.get_added_tokens_decoder().values()}
        tokens = [tokenizers.AddedToken(**token) for _, token in sorted(more.get("added_tokens_decoder", {}).items(), key=lambda each: int(each[0]))]
        library.add_tokens([token for token in tokens if token.content not in known])
        added = sorted(token.content for token in library.get_added_tokens_decoder().values())
        fast = PreTrainedTokenizerFast(tokenizer_object=library)
        for text in [*found(texts, count, rng), *made(count * 20, added, rng)]:
            ids = library.encode(text, add_special_tokens=False).ids
            assert fast(text, add_special_tokens=False)["input_ids"] == ids
            print(json.dumps({
                "tokenizer": path.parent.name,
                "text": text,
                "ids": ids,
                "decoded": library.decode(ids, skip_special_tokens=False),
                "plain": library.decode(ids, skip_special_tokens=True),
                "withSpecials": library.encode(text).ids,
            }))


main()

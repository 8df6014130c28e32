"""Answers to function-calling rows with the verdict of BFCL's own AST checker, for scripts/parity/bfcl.ts.

    python scripts/parity/bfcl.py --checkout gorilla/berkeley-function-call-leaderboard --each 5 --seed 1 \
        --rows BFCL_v4_multiple.json --answers possible_answer/BFCL_v4_multiple.json > judged.jsonl

Each row gives --each answers: its first accepted calls, then calls with one or two random changes (names, parameters,
values, types, order, count). An answer is written in one of six styles, and a line is
{tools, accepted, completion, style, verdict}; with --short the row's number stands for tools and accepted values, as
in test/fixtures/bfcl. Without --answers no call is wanted. The checker is imported from the
checkout; the packages that it imports and does not use for Python are stood in for. Needs no package.
"""

import argparse
import copy
import importlib
import json
import random
import sys
import types

STYLES = ["hermes", "llama", "phi", "xlam", "json", "python"]
JUNK = ["", " ", "x", "0", 0, 1, -1, 1.0, 0.5, True, False, None, [], {}, [1], ["a"], [1.0], {"a": 1}, "None", 10**20,
        [[1]], [{}], [None], (1, 2), ("a",), (1.0, 2.0)]


def load_checker(checkout):
    sys.path.insert(0, checkout)
    unused = ["bfcl_eval.constants.model_config"] + [
        f"bfcl_eval.eval_checker.ast_eval.type_convertor.{name}_type_converter" for name in ("java", "js")
    ]
    for name in unused:
        module = types.ModuleType(name)
        module.__getattr__ = lambda _: None
        sys.modules[name] = module

    class Plain(dict):
        def __missing__(self, _):
            return types.SimpleNamespace(underscore_to_dot=False)

    sys.modules[unused[0]].MODEL_CONFIG_MAPPING = Plain()
    checker = importlib.import_module("bfcl_eval.eval_checker.ast_eval.ast_checker").ast_checker
    python = importlib.import_module("bfcl_eval.constants.enums").Language.PYTHON

    def verdict(tools, accepted, calls):
        if not accepted:
            return not calls
        category = "parallel" if len(accepted) > 1 else "multiple"
        try:
            return checker(tools, [{name: given} for name, given in calls], accepted, python, category, "m")["valid"]
        except Exception:  # what stops the checker is not a right answer
            return False

    return verdict


def is_text(value):
    return isinstance(value, str)


def unwrapped(rng, value, declared):
    """A dict of accepted values holds a list for each key."""
    if declared.get("type") == "dict" and isinstance(value, dict):
        chosen = {key: [each for each in values if each != ""] for key, values in value.items() if isinstance(values, list)}
        return {key: rng.choice(values) for key, values in chosen.items() if values}
    if declared.get("items", {}).get("type") == "dict" and isinstance(value, list):
        return [unwrapped(rng, each, {"type": "dict"}) for each in value]
    return value


def accepted_calls(rng, tools, accepted, is_first):
    calls = []
    for each in accepted:
        (name, parameters), = each.items()
        tool = next(tool for tool in tools if tool["name"] == name)
        declared = tool["parameters"]["properties"]
        given = {}
        for key, values in parameters.items():
            some = [value for value in values if not (is_text(value) and value == "")]
            may_omit = "" in values and key not in tool["parameters"]["required"]
            if some and (is_first or not (may_omit and rng.random() < 0.4)):
                value = some[0] if is_first else rng.choice(some)
                given[key] = unwrapped(rng, value, declared.get(key, {}))
        calls.append([name, given])
    return calls


def changed_text(rng, text):
    changes = [text.upper(), text.lower(), text.title(), text.swapcase(), text.replace(" ", ""), text.replace(" ", "_"),
               text.replace(",", ""), text.replace(", ", ","), text.replace("'", '"'), text.replace('"', "'"), text + ".",
               text + "!", " " + text, text[:-1], text + "s", text.replace("-", "/"), text.replace(".", "-"),
               "*" + text + "^", text + "\n", "\t" + text, text.replace(" ", "\u00a0"), "", None, [text], {"v": text},
               text + "é", text.replace("i", "İ"), text.split(",")[0], text + "\\n"]
    return rng.choice(changes)


def changed(rng, value):
    if isinstance(value, bool):
        return rng.choice([not value, int(value), str(value), str(value).lower(), float(value), None, [value]])
    if isinstance(value, int):
        return rng.choice([float(value), str(value), value + 1, -value, [value], bool(value), value + 0.5, None])
    if isinstance(value, float):
        return rng.choice([int(value), str(value), value + 0.1, -value, [value], round(value, 1), None])
    if is_text(value):
        return changed_text(rng, value)
    if isinstance(value, list):
        items = copy.deepcopy(value)
        at = rng.randrange(len(items)) if items else 0
        kind = rng.randrange(8)
        if kind == 0:
            return items[:at] + items[at + 1:]
        if kind == 1:
            return items + items[:1]
        if kind == 2:
            return items[::-1]
        if kind == 3:
            return tuple(items)
        if kind == 4:
            return [float(each) if type(each) is int else each for each in items]
        if kind == 5:
            return str(items)
        return items[:at] + [changed(rng, items[at]) if kind == 6 else rng.choice(JUNK)] + items[at + 1:] if items else [0]
    if isinstance(value, dict):
        entries = copy.deepcopy(value)
        key = rng.choice(list(entries) or ["k"])
        kind = rng.randrange(6)
        if kind == 0:
            entries.pop(key, None)
        elif kind == 1:
            entries["extra"] = rng.choice(JUNK)
        elif kind == 2:
            entries[key.upper()] = entries.pop(key, 1)
        elif kind == 3:
            return rng.choice([[entries], str(entries), dict(reversed(list(entries.items())))])
        else:
            entries[key] = changed(rng, entries.get(key)) if kind == 4 else rng.choice(JUNK)
        return entries
    return rng.choice(JUNK)


def changed_calls(rng, tools, calls):
    calls = copy.deepcopy(calls)
    if not calls:
        return [[rng.choice(tools)["name"], {}]] if tools and rng.random() < 0.6 else []
    call = rng.choice(calls)
    name, given = call
    key = rng.choice(list(given) or ["none"])
    kind = rng.randrange(14)
    if kind == 0:
        calls.remove(call)
    elif kind == 1:
        calls.append(copy.deepcopy(call))
    elif kind == 2:
        rng.shuffle(calls)
    elif kind == 3:
        call[0] = rng.choice([name.upper(), name.replace(".", "_"), name + "_x", rng.choice(tools)["name"]])
    elif kind == 4:
        given.pop(key, None)
    elif kind == 5:
        given[rng.choice(["extra", "q", "unit", "name", "type", "arguments"])] = rng.choice(JUNK)
    elif kind == 6:
        given[rng.choice([key.upper(), key + "s", "_" + key])] = given.pop(key, 1)
    elif kind == 7:
        declared = next((tool for tool in tools if tool["name"] == name), {}).get("parameters", {}).get("properties", {})
        other = rng.choice(list(declared) or ["z"])
        given[other] = declared.get(other, {}).get("default", rng.choice(JUNK))
    elif kind == 8 and len(calls) > 1:
        one, two = rng.sample(calls, 2)
        one[1], two[1] = two[1], one[1]
    elif kind == 9 and given:
        given[key] = rng.choice(JUNK)
    elif given:
        given[key] = changed(rng, given[key])
    return calls


def has_tuple(value):
    if isinstance(value, (list, dict)):
        return any(has_tuple(each) for each in (value.values() if isinstance(value, dict) else value))
    return isinstance(value, tuple)


def written(rng, style, calls):
    if style == "python":
        texts = [f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})" for name, given in calls]
        return f"[{', '.join(texts)}]"
    key = "parameters" if style == "llama" else "arguments"
    ascii_only = rng.random() < 0.5
    dumps = lambda value: json.dumps(value, ensure_ascii=ascii_only)
    objects = [{"name": name, key: given} for name, given in calls]
    if style == "hermes":
        return "\n".join(f"<tool_call>\n{dumps(each)}\n</tool_call>" for each in objects) or "No tool fits."
    if style == "llama" and objects:
        return "; ".join(map(dumps, objects))
    if style == "phi":
        return f"<|tool_call|>{dumps(objects)}<|/tool_call|>"
    return rng.choice([dumps(objects), f"```json\n{dumps(objects)}\n```"]) if style == "json" else dumps(objects)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--checkout", required=True)
    parser.add_argument("--rows", required=True)
    parser.add_argument("--answers")
    parser.add_argument("--each", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    verdict = load_checker(options.checkout)
    rng = random.Random(options.seed)
    rows = [json.loads(line) for line in open(options.rows, encoding="utf-8")]
    answers = [json.loads(line) for line in open(options.answers, encoding="utf-8")] if options.answers else None
    for index, row in enumerate(rows):
        tools = row["function"]
        accepted = answers[index]["ground_truth"] if answers else []
        for answer in range(options.each):
            calls = accepted_calls(rng, tools, accepted, answer == 0)
            for _ in range(0 if answer == 0 else rng.choice([1, 1, 2])):
                calls = changed_calls(rng, tools, calls)
            style = "python" if any(has_tuple(given) for _, given in calls) else rng.choice(STYLES)
            posed = {"row": index} if options.short else {"tools": tools, "accepted": accepted}
            line = {**posed, "completion": written(rng, style, calls), "style": style,
                    "verdict": verdict(tools, accepted, calls)}
            print(json.dumps(line, ensure_ascii=False))


main()

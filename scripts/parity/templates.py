"""
What transformers renders for every template of a folder, over a matrix of conversations.

Writes one JSON line for each case: {"template", "input", "text", "assistantSpans"?} or {"template", "input", "error"},
where error is "raised" (the template called raise_exception) or "template" (anything else). The clock stands still.
Run by templates.ts; `python templates.py FOLDER NOW` with transformers 5.17 and Jinja2 3.1.
"""

import datetime
import json
import pathlib
import sys

import jinja2
from transformers.utils import chat_template_utils

SPECIALS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a place.\nIn \"degrees\" & more <b>ü</b>",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "The city's name"},
                "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
                "days": {"type": "integer", "default": 3, "minimum": 1},
                "limit": {"type": "number", "default": 1.0, "maximum": 1e20},
                "deep": {"type": ["string", "null"], "nullable": True, "default": None},
                "tags": {"type": "array", "items": {"type": "string"}, "description": "many"},
                "where": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]},
                "any": {"anyOf": [{"type": "string"}, {"type": "integer"}], "description": "either"},
                "one": {"oneOf": [{"type": "string", "description": "a"}, {"type": "boolean", "default": False}]},
                "2": {"type": "boolean", "default": True},
                "1": {"type": "string"},
            },
            "required": ["city"],
        },
        "return": {"type": "string", "description": "text"},
    },
}
PLAIN_TOOL = {"type": "function", "function": {"name": "noop", "description": "Nothing.", "parameters": {"type": "object", "properties": {}}}}
BARE_TOOL = {"name": "bare", "description": "Bare é", "parameters": {"type": "object", "properties": {"a": {"type": "string", "description": "d"}}, "required": []}}
BROWSER = {"type": "function", "function": {"name": "browser", "description": "d", "parameters": None}}


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def system(content):
    return {"role": "system", "content": content}


def call(name, arguments, id=None, **more):
    made = {"type": "function", "function": {"name": name, "arguments": arguments}, **more}
    if id is not None:
        made["id"] = id
    return made


ARGUMENTS = {"city": "Zürich", "days": 2, "limit": 0.5, "whole": 1.0, "ok": True, "no": None, "list": [1, "a", {"b": "<'>"}], "empty": {}, "text": "a \"quote\"\nline"}
THOUGHT = "<think>\nHmm, 2 < 3.\n</think>\n\nThe answer."
ODD = "It's \"<b>&amp;</b>\" — ünï 中文 🦀\ttab\\n {{ x }} {% y %}\n\n  two  "

CONVERSATIONS = {
    "one": [user("Hi")],
    "system": [system("Be brief."), user("Hi")],
    "two-systems": [system("One."), system("Two."), user("Hi")],
    "late-system": [user("Hi"), assistant("Yo"), system("Now."), user("More")],
    "only-system": [system("Be brief.")],
    "developer": [{"role": "developer", "content": "Be kind."}, user("Hi")],
    "turns": [user("A"), assistant("B"), user("C")],
    "ends-assistant": [user("A"), assistant("B")],
    "long": [system("S"), user("A"), assistant("B"), user("C"), assistant("D"), user("E"), assistant("F")],
    "two-users": [user("A"), user("B"), assistant("C")],
    "two-assistants": [user("A"), assistant("B"), assistant("C"), user("D")],
    "assistant-first": [assistant("B"), user("A")],
    "odd-text": [system(ODD), user(ODD), assistant(ODD), user(ODD)],
    "spaces": [system("  s \n"), user("\n a  "), assistant(" \tb\n\n"), user("\u00a0c\u3000\ufeff\x1c")],
    "empty": [system(""), user(""), assistant(""), user("")],
    "none": [user("A"), assistant(None), user("B")],
    "none-user": [user(None)],
    "no-content": [user("A"), {"role": "assistant"}, user("B")],
    "no-role": [{"content": "A"}],
    "unknown-role": [user("A"), {"role": "critic", "content": "B"}],
    "number": [user(7), assistant(1.0), user(True)],
    "float": [user("A"), assistant(2.5)],
    "parts": [user([{"type": "text", "text": "What is "}, {"type": "text", "text": "this?"}]), assistant([{"type": "text", "text": "That."}])],
    "parts-system": [system([{"type": "text", "text": "Sys"}]), user([{"type": "text", "text": "Q"}])],
    "image": [user([{"type": "image"}, {"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": "u"}}]), assistant("ok")],
    "video-audio": [user([{"type": "video"}, {"type": "audio"}, {"type": "text", "text": "x"}])],
    "odd-parts": [user([{"type": "other"}, "text", {"text": "bare"}])],
    "no-parts": [user([]), assistant([]), user("x")],
    "dict-content": [user({"a": 1})],
    "thinking": [user("A"), assistant(THOUGHT), user("B")],
    "thinking-twice": [user("A"), assistant(THOUGHT), user("B"), assistant(THOUGHT)],
    "thinking-unclosed": [user("A"), assistant("<think>\nnever"), user("B")],
    "thinking-closed": [user("A"), assistant("so\n</think>\n\nyes"), user("B"), assistant("</think>")],
    "reasoning": [user("A"), assistant("B", reasoning_content="Because."), user("C"), assistant("D", reasoning_content="\nSo.\n")],
    "reasoning-named": [user("A"), assistant("B", reasoning="Because."), user("C"), assistant("D", thinking="So.")],
    "reasoning-none": [user("A"), assistant("B", reasoning_content=None), user("C")],
    "slash-no-think": [system("Be /no_think"), user("A /no_think"), assistant("B")],
    "slash-think": [system("Custom. /system_override /think"), user("A")],
    "call": [user("W?"), assistant("", tool_calls=[call("get_weather", ARGUMENTS, "abcdefghi")]), {"role": "tool", "content": "18 °C", "tool_call_id": "abcdefghi", "name": "get_weather"}, assistant("18.")],
    "call-text": [user("W?"), assistant(None, tool_calls=[call("get_weather", json.dumps(ARGUMENTS), "abcdefghi")]), {"role": "tool", "content": "{\"t\": 18}", "tool_call_id": "abcdefghi", "name": "get_weather"}],
    "call-content": [system("S"), user("W?"), assistant("I look.", tool_calls=[call("get_weather", {"city": "Bern"}, "abcdefghi")]), {"role": "tool", "content": {"t": 18.0}, "tool_call_id": "abcdefghi"}, user("And?")],
    "two-calls": [user("W?"), assistant("", tool_calls=[call("get_weather", {"city": "Bern"}, "abcdefghi"), call("noop", {}, "123456789")]), {"role": "tool", "content": "a", "tool_call_id": "abcdefghi", "name": "get_weather"}, {"role": "tool", "content": "b", "tool_call_id": "123456789", "name": "noop"}, assistant("Both."), user("Thanks")],
    "call-bare": [user("W?"), assistant("", tool_calls=[{"name": "get_weather", "arguments": {"city": "Bern"}}]), {"role": "tool", "content": "a"}],
    "call-no-id": [user("W?"), assistant("", tool_calls=[call("get_weather", {"city": "Bern"})]), {"role": "tool", "name": "get_weather", "content": "a"}, assistant("b")],
    "call-thinking": [user("W?"), assistant(THOUGHT, tool_calls=[call("get_weather", {"city": "Bern"}, "abcdefghi")]), {"role": "tool", "content": "a", "tool_call_id": "abcdefghi"}, assistant("x", reasoning_content="y"), user("z")],
    "call-reasoning": [user("W?"), assistant(None, reasoning_content="R", tool_calls=[call("get_weather", {}, "abcdefghi")]), {"role": "tool", "content": "a", "tool_call_id": "abcdefghi"}, {"role": "tool", "content": "b", "tool_call_id": "abcdefghi"}],
    "no-calls": [user("A"), assistant("B", tool_calls=[]), user("C")],
    "none-calls": [user("A"), assistant("B", tool_calls=None), user("C")],
    "tool-first": [{"role": "tool", "content": "x"}],
    "tool-parts": [user("W?"), assistant("", tool_calls=[call("noop", {}, "abcdefghi")]), {"role": "tool", "content": [{"type": "text", "text": "part"}], "tool_call_id": "abcdefghi"}],
    "tool-plan": [user("W?"), assistant(None, tool_plan="I will look.", tool_calls=[call("get_weather", {"city": "Bern"}, "0")]), {"role": "tool", "tool_call_id": "0", "content": "{\"t\": 1}"}],
    "ipython": [user("W?"), assistant("x"), {"role": "ipython", "content": {"a": [1, None]}}],
    "documents-role": [user("A"), {"role": "document", "content": "D"}, {"role": "context", "content": "E"}],
    "weight": [user("A"), assistant("B", weight=0, prefix=True), user("C")],
    "channel": [user("A"), assistant("B", channel="final", thinking="T"), user("C"), assistant("D", thinking="U", tool_calls=[call("noop", {}, "abcdefghi")]), {"role": "tool", "content": "r", "tool_call_id": "abcdefghi"}],
}

TOOLS = {"none": None, "empty": [], "two": [WEATHER, PLAIN_TOOL], "bare": [BARE_TOOL], "odd": [BROWSER, WEATHER]}
VARIABLES = [
    {},
    {"enable_thinking": False},
    {"enable_thinking": True, "date_string": "1 Jan 2030", "reasoning_effort": "high", "model_identity": "I am <x>."},
    {"builtin_tools": ["code_interpreter", "browser", "python"], "tools_in_user_message": False, "xml_tools": [WEATHER], "python_tools": [PLAIN_TOOL], "thinking": True, "preserve_thinking": True, "clear_thinking": False},
    {"custom_instructions": "Do.", "keep_past_thinking": True, "truncate_history_thinking": False, "bos_token": "<other>", "citation_mode": "fast", "add_vision_id": True},
]
DOCUMENTS = [{"title": "T", "text": "Some text."}, {"title": "Ü", "text": "More"}]


def cases():
    for name, messages in CONVERSATIONS.items():
        for prompt in (False, True):
            for tools in TOOLS if "call" in name or name in ("one", "system", "turns", "tool-plan") else ("none", "two"):
                for variables in VARIABLES if name in ("one", "system", "thinking-twice", "reasoning", "call", "two-calls", "channel", "image", "slash-think") else VARIABLES[:2]:
                    yield {"messages": messages, "tools": TOOLS[tools], "add_generation_prompt": prompt, "variables": variables}
        yield {"messages": messages, "continue_final_message": True}
    yield {"messages": CONVERSATIONS["one"], "documents": DOCUMENTS}
    yield {"messages": CONVERSATIONS["system"], "documents": [], "add_generation_prompt": True}
    yield {"messages": [], "add_generation_prompt": True}
    yield {"messages": CONVERSATIONS["one"], "add_generation_prompt": True, "continue_final_message": True}


def render(source, given):
    """As PreTrainedTokenizerBase.apply_chat_template calls it."""
    prompt, goes_on = given.get("add_generation_prompt", False), given.get("continue_final_message", False)
    try:
        if not given["messages"] or (prompt and goes_on):
            raise ValueError("refused before rendering")
        (text,), spans = chat_template_utils.render_jinja_template(
            conversations=[given["messages"]],
            tools=given.get("tools"),
            documents=given.get("documents"),
            chat_template=source,
            return_assistant_tokens_mask="generation" in source,
            continue_final_message=goes_on,
            add_generation_prompt=prompt,
            **{**SPECIALS, **given.get("variables", {})},
        )
    except Exception as error:
        return {"error": "raised" if type(error) is jinja2.exceptions.TemplateError else "template", "why": str(error)[:200]}
    # A continued text is cut after the spans were counted; apply_chat_template gives no mask for one.
    within = [(start, min(end, len(text))) for start, end in (spans or [[]])[0] if start <= len(text)]
    return {"text": text, **({"assistantSpans": within} if spans else {})}


def freeze(now):
    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime.fromisoformat(now)

    chat_template_utils.datetime = Clock


def main():
    folder, now = sys.argv[1:]
    freeze(now)
    for path in sorted(pathlib.Path(folder).rglob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        for given in cases():
            expected = render(source, given)
            print(json.dumps({"template": str(path.relative_to(folder)), "input": given, **expected}, ensure_ascii=True))


if __name__ == "__main__":
    main()

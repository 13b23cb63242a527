"""Dataclasses that are read from plain content with checks, and described as a JSON schema."""

import difflib
import math
from dataclasses import MISSING, field, fields

from remcg.errors import InputError

NONE = "none"
_JSON_TYPES = {
    "number": "number",
    "integer": "integer",
    "text": "string",
    "path": "string",
    "truth": "boolean",
    "mapping": "object",
}
_SPOKEN = {
    "number": "a number",
    "integer": "a whole number",
    "text": "a text",
    "path": "a file name",
    "truth": "true or false",
    "mapping": "a mapping, such as {temperature: 300, use: test}",
}


def option(
    kind,
    doc,
    default=MISSING,
    unit="",
    low=None,
    high=None,
    choices=None,
    hint="",
    many=False,
    word=None,
    named=False,
):
    """A field of a section: its type, unit, allowed range and what it means.

    Parameters
    ----------
    kind : "number", "integer", "text", "path", "truth" or "mapping"
    default
        Without one the key must be given; with None it may be null.
    low, high : float
        Both allowed.
    hint : str
        Said when the value is out of range: the slip that is most likely.
    many : bool
        The value is a list; one value alone stands for a list of one.
    word : str, optional
        A word that may stand for the value, such as auto; null is the same as "none".
    named : bool
        The value is a mapping from names to values.
    """
    metadata = {
        "kind": kind,
        "doc": doc,
        "unit": unit,
        "low": low,
        "high": high,
        "choices": choices,
        "hint": hint,
        "many": many,
        "word": word,
        "named": named,
    }
    if isinstance(default, list | dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def section(cls, doc, required=False):
    """A field that is a section of its own; without ``required`` it may be left out."""
    metadata = {"section": cls, "doc": doc}
    return field(metadata=metadata) if required else field(default_factory=cls, metadata=metadata)


def build(cls, content, where):
    """An instance of the dataclass ``cls`` from plain content; ``where`` names the place."""
    refuse_unknown_keys(content, [item.name for item in fields(cls)], where)
    values = {}
    for item in fields(cls):
        place = f"{where}.{item.name}" if where else item.name
        if item.name not in content:
            if is_required(item):
                raise InputError(f"{where or 'the file'}: the key '{item.name}' is missing; add it")
        elif "section" in item.metadata:
            values[item.name] = build(item.metadata["section"], content[item.name] or {}, place)
        else:
            values[item.name] = check(content[item.name], item, place)
    return cls(**values)


def is_required(item):
    """Whether a field of a dataclass has no default."""
    return item.default is MISSING and item.default_factory is MISSING


def default_of(item):
    """Default of a field, or None where it has none."""
    if is_required(item):
        return None
    return item.default if item.default_factory is MISSING else item.default_factory()


def refuse_unknown_keys(content, allowed, where):
    """Name every key that is not allowed, with the legal one nearest to it."""
    place = where or "the file"
    if not isinstance(content, dict):
        raise InputError(
            f"{place}: found {_shown(content)} where keys are expected; give some of "
            f"{', '.join(allowed)}"
        )
    for key in content:
        if key not in allowed:
            raise InputError(
                f"{place}: unknown key '{key}'; {suggestion(key, allowed)}allowed are "
                f"{', '.join(sorted(allowed))}"
            )


def _shown(value):
    return "nothing" if value is None else repr(value)


def nearest(name, names):
    """The entry of ``names`` most like ``name``, or None when nothing is alike."""
    lower = {str(candidate).lower(): candidate for candidate in names}
    found = difflib.get_close_matches(str(name).lower(), list(lower), n=1, cutoff=0.5)
    return lower[found[0]] if found else None


def suggestion(name, names):
    """Part of a message about an unknown name: "did you mean 'x'? ", or nothing."""
    guess = nearest(name, names)
    return f"did you mean '{guess}'? " if guess else ""


def correction(name, names, otherwise):
    """End of a message about an unknown name: "; did you mean 'x'?", or what to do otherwise."""
    guess = nearest(name, names)
    return f"; did you mean '{guess}'?" if guess else otherwise


def check(value, item, where):
    """The value of one option, cast to its type, or an InputError."""
    rules = item.metadata
    if value is None:
        if default_of(item) is None and not is_required(item):
            return None
        if rules["word"] == NONE:
            return NONE
        raise InputError(f"{where}: has no value; give {_spoken_kind(rules)}")
    if rules["many"] and not rules["named"]:
        return _check_many(value, rules, where)
    if rules["named"]:
        if not isinstance(value, dict):
            raise InputError(
                f"{where}: found {value!r}; give names with {_spoken_kind(rules)} each, such as "
                "{NAME: ...}"
            )
        check_each = _check_many if rules["many"] else _check_one
        return {str(k): check_each(v, rules, f"{where}.{k}") for k, v in value.items()}
    return _check_one(value, rules, where)


def _check_many(value, rules, where):
    values = value if isinstance(value, list) else [value]
    return [_check_one(entry, rules, f"{where}[{i}]") for i, entry in enumerate(values)]


def _check_one(value, rules, where):
    if rules["word"] is not None and value == rules["word"]:
        return value
    value = _cast(value, rules, where)
    if rules["choices"] and value not in rules["choices"]:
        advice = correction(value, rules["choices"], "")
        raise InputError(
            f"{where}: found '{value}', allowed are {', '.join(map(str, rules['choices']))}{advice}"
        )
    low, high = rules["low"], rules["high"]
    if (low is not None and value < low) or (high is not None and value > high):
        hint = f"; {rules['hint']}" if rules["hint"] else "; correct it"
        unit = f" {rules['unit']}" if rules["unit"] else ""
        allowed = spoken_range(rules) + _or_word(rules)
        raise InputError(f"{where}: {value:g}{unit} is out of range; {allowed}{hint}")
    return value


def _cast(value, rules, where):
    kind = rules["kind"]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "number" and is_number and math.isfinite(value):
        return float(value)
    if kind == "integer" and is_number and float(value).is_integer():
        return int(value)
    if kind in ("text", "path") and isinstance(value, str) and value.strip():
        _refuse_control_characters(value, where)
        return value
    if kind == "text" and is_number:
        return str(value)
    if kind == "truth" and isinstance(value, bool):
        return value
    if kind == "mapping" and isinstance(value, dict):
        return value
    raise InputError(f"{where}: found {value!r}, expected {_spoken_kind(rules)}")


def _refuse_control_characters(text, where):
    """Line breaks and the like are no part of a name; nor are characters that cannot be encoded."""
    for character in text:
        if not character.isprintable():
            raise InputError(
                f"{where}: found {text!r} with the character {character!r}; use printable ones only"
            )


def _spoken_kind(rules):
    return _SPOKEN[rules["kind"]] + (f" or {rules['word']}" if rules["word"] else "")


def _or_word(rules, quote=""):
    return f", or {quote}{rules['word']}{quote}" if rules["word"] else ""


def spoken_range(rules):
    """The allowed range of a number in words, with its unit."""
    low, high = rules["low"], rules["high"]
    unit = f" {rules['unit']}" if rules["unit"] else ""
    if low is not None and high is not None:
        return f"allowed is {low:g} to {high:g}{unit}"
    return f"allowed is at least {low:g}{unit}" if high is None else f"allowed is at most {high:g}"


def json_schema(cls, given=None, leave_out=()):
    """JSON schema (draft 2020-12) of a dataclass made of options and sections.

    ``given`` holds the schema of fields that are neither, by name.
    """
    items = [item for item in fields(cls) if item.name not in leave_out]
    properties = {item.name: _property(item, given or {}) for item in items}
    required = [item.name for item in items if is_required(item)]
    schema = {"type": "object", "additionalProperties": False, "properties": properties}
    return {**schema, "required": required} if required else schema


def _property(item, given):
    rules = item.metadata
    if item.name in given:
        return given[item.name]
    if "section" in rules:
        return {"description": rules["doc"], **json_schema(rules["section"], given)}
    schema = {"type": _JSON_TYPES[rules["kind"]]}
    if rules["low"] is not None:
        schema["minimum"] = rules["low"]
    if rules["high"] is not None:
        schema["maximum"] = rules["high"]
    if rules["choices"]:
        schema = {"enum": list(rules["choices"])}
    alternatives = [schema]
    if rules["word"]:
        alternatives.append({"const": rules["word"]})
    if rules["many"]:
        alternatives.append({"type": "array", "items": schema})
    if rules["named"]:
        each = {"anyOf": alternatives} if rules["many"] else schema
        alternatives = [{"type": "object", "additionalProperties": each}]
    is_nullable = not is_required(item) and default_of(item) is None
    if is_nullable or rules["word"] == NONE:
        alternatives.append({"type": "null"})
    schema = alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives}
    described = f"{rules['doc']} ({rules['unit']})" if rules["unit"] else rules["doc"]
    result = {"description": described, **schema}
    return result if is_required(item) else {**result, "default": default_of(item)}


def markdown_table(cls):
    """One line per option: key, unit, default, range, meaning."""
    lines = ["| key | unit | default | allowed | meaning |", "|---|---|---|---|---|"]
    for item in fields(cls):
        if "kind" in item.metadata:
            lines.append(_markdown_row(item))
    return "\n".join(lines)


def _markdown_row(item):
    rules = item.metadata
    default = "required" if is_required(item) else _spoken_default(default_of(item))
    if rules["choices"]:
        allowed = ", ".join(f"`{choice}`" for choice in rules["choices"])
    elif rules["low"] is not None or rules["high"] is not None:
        allowed = spoken_range(rules).removeprefix("allowed is ").removesuffix(rules["unit"])
    else:
        allowed = _SPOKEN[rules["kind"]] + (" or a list" if rules["many"] else "")
    allowed = allowed.strip() + (" for each name" if rules["named"] else "") + _or_word(rules, "`")
    cells = f"`{item.name}`", rules["unit"], default, allowed, rules["doc"]
    return "| " + " | ".join(cells) + " |"


def _spoken_default(value):
    words = {None: "null", True: "true", False: "false"}
    if isinstance(value, dict):
        return "`{" + ", ".join(f"{key}: {item}" for key, item in value.items()) + "}`"
    if isinstance(value, list):
        return "`[" + ", ".join(map(str, value)) + "]`"
    return f"`{words[value]}`" if value is None or isinstance(value, bool) else f"`{value}`"

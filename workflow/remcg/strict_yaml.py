"""YAML without its traps: no duplicate keys, `NO` is a name and `1e5` a number."""

import re
from pathlib import Path

import yaml

from remcg.errors import InputError

MOST_VALUES = 1_000_000
LONGEST_INTEGER = 18  # digits
_TRUTH = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_NULL = re.compile(r"^(?:~|null|Null|NULL|)$")
_INTEGER = re.compile(r"^[-+]?[0-9]+$")
_FLOAT = re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$")
_NOT_FINITE = re.compile(r"^[-+]?\.(?:inf|Inf|INF|nan|NaN|NAN)$")


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012  (YAML 1.1 would read NO as false, 1e5 as text)

    def construct_mapping(self, node, deep=False):
        seen = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool) and key is not None:
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be a plain word", key_node.start_mark
                )
            line = key_node.start_mark.line + 1
            if key in seen:
                raise InputError(
                    f"the key {key!r} stands twice, in lines {seen[key]} and {line}; "
                    "keep one of them"
                )
            seen[key] = line
        return super().construct_mapping(node, deep)

    def construct_integer(self, node):
        text = self.construct_scalar(node)
        if len(text) > LONGEST_INTEGER:
            raise InputError(
                f"the number {text[:LONGEST_INTEGER]}... in line {node.start_mark.line + 1} has "
                f"more than {LONGEST_INTEGER} digits; write it as 1e20 or alike"
            )
        return int(text)

    def construct_float(self, node):
        text = self.construct_scalar(node)
        return float(text.replace(".inf", "inf").lower().replace(".nan", "nan"))


for _tag, _pattern, _first in (
    ("bool", _TRUTH, "tTfF"),
    ("null", _NULL, ["~", "n", "N", ""]),
    ("int", _INTEGER, "-+0123456789"),
    ("float", _FLOAT, "-+.0123456789"),
    ("float", _NOT_FINITE, "-+."),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_float)


def value(text, where):
    """A value such as one of the YAML file has: a number, a word, a list."""
    try:
        return _loaded(text)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except RecursionError as error:
        raise InputError(f"{where}: a value is nested too deeply; write it flatter") from error
    except (yaml.YAMLError, ValueError) as error:
        found = " ".join(str(error).split())
        raise InputError(f"{where}: '{text}' is not a value ({found}); correct it") from error


def _loaded(text):
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {}, set())
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _count(node, known, above):
    """Values below a node with its aliases written out; too many, or a circle, are refused."""
    if id(node) in above:
        raise InputError("an alias (*) stands within what it is an alias of; write it out")
    if id(node) not in known:
        children = node.value if isinstance(node.value, list) else []
        parts = [part for child in children
                 for part in (child if isinstance(child, tuple) else (child,))]  # fmt: skip
        known[id(node)] = 1 + sum(_count(part, known, above | {id(node)}) for part in parts)
    if known[id(node)] > MOST_VALUES:
        raise InputError(
            f"has more than {MOST_VALUES} values when aliases (*) are written out; use fewer"
        )
    return known[id(node)]


def read(path):
    """Content of a YAML file; every fault is an InputError that names the file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not a text file in UTF-8; save it as UTF-8") from error
    try:
        return _loaded(text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except RecursionError as error:
        raise InputError(f"{path}: is nested too deeply; write it flatter") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from error

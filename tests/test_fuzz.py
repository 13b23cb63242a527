"""Readers of what users write meet mutated documents: an answer or an InputError, nothing else.

More than ten thousand inputs in all. Documents are valid ones in which a few things went wrong, as
random bytes would hardly get past the first check.
"""

import copy
import random
import signal
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import test_import_maps
import waters
from remcg import config, strict_yaml, sweep, trajectory
from remcg.errors import InputError
from remcg.import_maps import from_openmscg, import_maps
from remcg.mapping.rules import parse_mapping
from remcg.model import Model
from remcg.target import read_topology  # noqa: F401  (imports are not part of the time)
from test_damage import small_model

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 120  # s for all inputs of one reader
WORDS = [
    None, True, False, 0, -1, 1, 2.5, 1e-300, 1e300, float("inf"), float("nan"), 10**18, -(10**18),
    "", " ", "auto", "none", "a", "A-A", "../../x", "/", "\0", "\n", "x" * 300, "{",
    "{temperature}",
    "{0}", "{}", "{a.b}", "{temperature!r:9}", "%s", "$(x)", "<script>", "'", '"', "\ud800", "é",
    [], [[]], [None], ["a", "a"], [1, 2, 3], {}, {"a": 1}, {"kind": "pair"}, {"id": []}, {1: 2},
    [{}], "pair", "bond", "volume", "W", ["W", "W"], "mass", [1.0, -1.0], "1e5", ["1-2"], 1.0,
]  # fmt: skip
BYTES = [b"", b"\0", b"\xff", b":", b"-", b"[", b"]", b"{", b"}", b"&a ", b"*a", b"\n", b"\t", b"<",
         b">", b"</", b"&", b'"', b"'", b",", b"!!", b"!!python/object:os.system", b"1e999", b"nan",
         b"%", b"|", b"#", b"<<: *a", b"\xc3\xa9", b"9" * 30, b";", b"--- "]  # fmt: skip


def run(count):
    """Settings and seeds of a fuzz test: ``count`` inputs, each from a whole number."""

    def decorate(test):
        strategy = st.integers(0, 2**32 - 1)
        checks = list(HealthCheck)
        with_settings = settings(
            max_examples=count, deadline=None, database=None, suppress_health_check=checks
        )
        return seed(20)(with_settings(given(number=strategy)(test)))

    return decorate


@contextmanager
def in_time():
    """No reader may hang."""

    def give_up(*_):
        raise TimeoutError("a reader hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def answers(reader, *arguments):
    """Whether the reader takes the input; what it refuses must be an InputError with words."""
    with in_time():
        try:
            reader(*arguments)
        except InputError as error:
            assert str(error).strip()
            return False
    return True


def mutated(content, number):
    """A copy of nested lists and dicts in which one to three things went wrong."""
    chance = random.Random(number)
    content = copy.deepcopy(content)
    for _ in range(chance.randint(1, 3)):
        places = list(_places(content))
        if not places:
            return content
        container, key = chance.choice(places)
        what = chance.random()
        if what < 0.55:
            container[key] = copy.deepcopy(chance.choice(WORDS))
        elif what < 0.7:
            del container[key]
        elif what < 0.85:
            other, at = chance.choice(places)
            container[key] = copy.deepcopy(other.get(at) if isinstance(other, dict) else other[-1:])
        elif isinstance(container, dict):
            container[chance.choice(["x", "", None, 3, "sites", f"{key}s"])] = container[key]
        else:
            container.insert(0, copy.deepcopy(container[key]))
    return content


def _places(item):
    pairs = item.items() if isinstance(item, dict) else enumerate(item)
    for key, value in list(pairs):
        yield item, key
        if isinstance(value, dict | list):
            yield from _places(value)


def scratched(text, number):
    """Bytes in which one to four places were cut out, doubled, overwritten or filled in."""
    chance = random.Random(number)
    text = bytearray(text if isinstance(text, bytes) else text.encode())
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(text) + 1)
        to = min(at + chance.randint(0, 12), len(text))
        what = chance.random()
        if what < 0.3:
            del text[at:to]
        elif what < 0.5:
            text[at:at] = text[at:to]
        elif what < 0.7 and at < len(text):
            text[at] ^= 1 << chance.randrange(8)
        else:
            text[at:at] = chance.choice(BYTES)
    return bytes(text)


CAMPAIGN = config.load(ROOT / "config" / "spce-water.yaml", check_files=False)


def documents():
    """Contents of configs: all of the repository, and one with every section."""
    found = [strict_yaml.read(path) for path in sorted((ROOT / "config").glob("*.yaml"))]
    grid = waters.content()
    grid["states"] = {
        "temperature": [280, 300],
        "pressure": [1, 100],
        "trajectory": "T{temperature}_P{pressure}.xtc",
        "test_temperature": [],
    }
    full = waters.content()
    plain = CAMPAIGN.to_dict()
    full |= {key: plain[key] for key in ("sample", "rem", "predict", "backmap", "validate")}
    files = {
        "topology": "resources/spce/topology.pdb",
        "mapping": "config/mappings/water-1site.yaml",
    }
    return [*found, *({**each, "system": dict(files)} for each in (grid, full))]


DOCUMENTS = documents()
CONFIG = ROOT / "config" / "fuzzed.yaml"  # never written: where files are looked for


@run(4000)
def test_a_config_of_wrong_content_is_an_input_error(number):
    content = mutated(DOCUMENTS[number % len(DOCUMENTS)], number)
    answers(config._load, content, CONFIG, False)


@run(3000)
def test_a_mapping_of_wrong_content_is_an_input_error(number):
    answers(parse_mapping, mutated(MAPPINGS[number % len(MAPPINGS)], number))


MAPPINGS = [strict_yaml.read(p) for p in sorted((ROOT / "config" / "mappings").glob("*.yaml"))]
MAPPINGS += [
    {
        "X": {"sites": {"A": {"select": "name C", "weights": [1, 2]}}, "masses": {"C": 15}},
        "Y": {"ignore": True},
        "Z": {
            "sites": {"A1": {"atoms": ["C"]}, "B": {"atoms": ["D"], "weights": "geometric"}},
            "types": {"A1": "A"},
            "bonds": [["A1", "B"]],
        },
    }
]
YAML = "a: &x {b: [1, 2.5, NO], c: 'text'}\nd: *x\ne: |\n  words\nf: {g: null, h: 1e5}\n"


@run(1500)
def test_scratched_yaml_is_an_input_error(tmp_path_factory, number):
    path = _file(tmp_path_factory, "x.yaml", scratched(YAML, number))
    answers(strict_yaml.read, path)


@run(400)
def test_a_scratched_config_file_is_an_input_error(tmp_path_factory, number):
    text = yaml.safe_dump(DOCUMENTS[-2])
    path = _file(tmp_path_factory, "config.yaml", scratched(text, number))
    answers(config.load, path, False)


@run(2000)
def test_a_scratched_mapping_of_votca_is_an_input_error(tmp_path_factory, number):
    path = _file(tmp_path_factory, "map.xml", scratched(test_import_maps.PROPANE, number))
    answers(import_maps, [path])


@run(1000)
def test_a_mapping_of_openmscg_of_wrong_content_is_an_input_error(number):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trajectory, "load_topology", lambda path: WATERS)
        answers(from_openmscg, mutated(test_import_maps.WATER, number), "topology.pdb")


WATERS = waters.topology(4)
LOG = (
    "#time_ps,potential_energy_kJ_mol,volume_nm3,temperature_K\n"
    + "".join(f"{k}.0,-{k}e3,8.{k},300.{k}\n" for k in range(8))
)  # fmt: skip


@run(1500)
def test_a_scratched_log_is_an_input_error(tmp_path_factory, number):
    path = _file(tmp_path_factory, "log.csv", scratched(LOG, number))
    answers(trajectory.read_log, path, "T300")


@run(1500)
def test_a_scratched_model_is_an_input_error(tmp_path_factory, number):
    folder = tmp_path_factory.getbasetemp()
    if not (folder / "whole.json").exists():
        small_model().write(folder / "whole.json")
    text = (folder / "whole.json").read_bytes()
    answers(Model.read, _file(tmp_path_factory, "model.json", scratched(text, number)))


@run(1000)
def test_a_model_of_wrong_content_is_an_input_error(tmp_path_factory, number):
    """Such as another program, or a hand, would write it: without a seal."""
    import json

    content = mutated(json.loads(json.dumps(small_model().to_dict(), default=list)), number)
    text = json.dumps(content, default=str).encode()
    answers(Model.read, _file(tmp_path_factory, "model.json", text))


TABLE = (
    "variant\tmodel.terms.0.r_cut\tstates.T280.weight\tmodel.temperature\tmodel.exclude\n"
    'wide\t0.9\t\tlinear\t"[1-2]"\nheavy\t\t3\t\t\nflat\t\t\tconstant\t[]\n'
)
PIECES = ["\t", "\n", '"', "variant", "states.0.", "model.terms.²", ".", "seed", "sweep", "null",
          "[", "{a: 1}", "&a [*a]", "model", "\r", "\ufeff", "9" * 30]  # fmt: skip


@run(1000)
def test_a_scratched_table_of_a_sweep_is_an_input_error(tmp_path_factory, number):
    chance = random.Random(number)
    text = list(TABLE)
    for _ in range(chance.randint(0, 3)):
        at = chance.randrange(len(text))
        text[at : at + chance.randint(0, 6)] = chance.choice(PIECES)
    path = _file(tmp_path_factory, "sweep.tsv", scratched("".join(text), number))
    answers(_variants, replace(CAMPAIGN, sweep=config.Sweep(table=path)))


def _variants(campaign):
    for name, changes in sweep.changes_of(campaign).items():
        sweep.content_of(campaign, name, changes)


@run(600)
def test_a_sweep_of_wrong_content_is_an_input_error(number):
    content = mutated(SWEEP, number)
    content = {**DOCUMENTS[0], "sweep": content}
    answers(lambda: _variants(config.from_content(content, CONFIG, check_files=False)))


SWEEP = {
    "grid": {"model.terms.0.r_cut": [0.7, 0.9], "model.temperature": ["linear", "quadratic"]},
    "variants": {"as-it-is": {}, "heavy": {"states.0.weight": 3, "sample.steps": 20000}},
}


def _file(factory, name, content):
    path = factory.getbasetemp() / name
    path.write_bytes(content)
    return path


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi")
)
XML_BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi"))
    + "]><cg_molecule><name>&i;</name></cg_molecule>"
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "a: &a [*a]",
        "[" * 1500,
        "{a: " * 1500,
        "? " * 1500,
        "a: " + "9" * 5000,
        "a: " + "9" * 400,
    ],
)
def test_a_yaml_file_that_would_fill_the_memory_is_refused(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    assert not answers(strict_yaml.read, tmp_path / "x.yaml")


def test_an_xml_file_that_would_fill_the_memory_is_refused(tmp_path):
    (tmp_path / "x.xml").write_text(XML_BOMB)
    assert not answers(import_maps, [tmp_path / "x.xml"])

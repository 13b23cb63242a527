"""States at every combination of temperatures, pressures, compositions and further axes."""

import math
import re
import string
from itertools import product

from remcg.errors import InputError
from remcg.typed import check, suggestion

SHOWN = 5  # points that a message names
OVERRIDES = (
    "use", "weight", "trajectory", "log", "dynamics", "topology", "start", "end", "stride",
)  # fmt: skip
PATTERNS = ("trajectory", "log", "dynamics", "topology")
NOWHERE = "none"  # the use of a point that does not exist
_SPEC = re.compile(r"(0?[1-9]?\d?)?(\.\d)?[fg]?")
_AXIS = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class Number(float):
    """A number that reads in file names as it does in the config: 280, 298.15, 1000000."""

    def __format__(self, spec):
        return f"{float(self):{spec or '.12g'}}"

    def __str__(self):
        return format(self, "")


def expand(grid, state_options):
    """The states of a grid, as a list that the config could have had.

    Parameters
    ----------
    grid : StateGrid
    state_options : dict
        Name to field of a state: what ``where`` may set, and how it is checked.

    Returns
    -------
    list of dict
        Temperatures change slowest, then pressures, compositions and the other axes.

    Raises
    ------
    InputError
        Values that stand twice, points that share an id or a file, patterns with unknown words,
        and entries of ``where`` that meet no point.
    """
    axes = axes_of(grid)
    points = [dict(zip(axes, values)) for values in product(*axes.values())]
    rules = _rules(grid, axes, state_options)
    for number, (condition, _) in enumerate(rules):
        if not any(_meets(point, condition) for point in points):
            spoken = ", ".join(f"{name} {_listed(found)}" for name, found in condition.items())
            raise InputError(
                f"states.where[{number}]: no point of the grid has {spoken}; correct it"
            )
    pattern = grid.id or default_pattern(axes)
    states = []
    for point in points:
        settings = _settings(grid, point, rules)
        if settings.pop("use") != NOWHERE:
            states.append(_state(point, pattern, settings, _use(grid, point, rules)))
    _refuse_shared(states, axes)
    return [state for state, _ in states]


def axes_of(grid):
    """Name to values of every axis; at constant volume the pressure has the value None."""
    axes = {"temperature": [Number(value) for value in grid.temperature]}
    axes["pressure"] = [Number(value) for value in grid.pressure or []] or [None]
    if grid.composition:
        axes["composition"] = grid.composition
    for name, values in grid.axes.items():
        if name in axes or name in ("id", *OVERRIDES) or not _AXIS.fullmatch(name):
            raise InputError(
                f"states.axes: '{name}' cannot name an axis; take letters and digits, and none of "
                f"{', '.join([*axes, 'id', *OVERRIDES])}"
            )
        axes[name] = values
    for name, values in axes.items():
        place = f"states.{name}" if name not in grid.axes else f"states.axes.{name}"
        if not values:
            raise InputError(f"{place}: is empty; give at least one value, or leave it out")
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise InputError(f"{place}: {twice} stands twice; keep one of them")
    return axes


def default_pattern(axes):
    """Of ids: T280, and every other axis that has several values: T280_P1_x25."""
    parts = ["T{temperature}"]
    for name, values in axes.items():
        if name != "temperature" and len(values) > 1:
            parts.append("P{pressure}" if name == "pressure" else f"{{{name}}}")
    return "_".join(parts)


def _rules(grid, axes, state_options):
    """(condition, settings) of every entry that makes points differ, in order."""
    unknown = set(grid.test_temperature) - set(grid.temperature)
    if unknown:
        raise InputError(
            f"states.test_temperature: {min(unknown):g} K is not among the temperatures; "
            "add it to states.temperature"
        )
    rules = []
    for number, entry in enumerate(grid.where):
        rules.append(_rule(entry, f"states.where[{number}]", axes, state_options))
    return rules


def _rule(entry, place, axes, state_options):
    condition, settings = {}, {}
    for name, value in entry.items():
        if name in axes:
            condition[name] = _values(value, axes[name], f"{place}.{name}")
        elif name == "use" and value == NOWHERE:
            settings[name] = value
        elif name in OVERRIDES:
            settings[name] = check(value, state_options[name], f"{place}.{name}")
        else:
            allowed = [*axes, *OVERRIDES]
            raise InputError(
                f"{place}: unknown key '{name}'; {suggestion(name, allowed)}allowed are the axes "
                f"{', '.join(axes)} and {', '.join(OVERRIDES)}"
            )
    if not condition or not settings:
        lacking = "axis" if not condition else "setting"
        raise InputError(
            f"{place}: names no {lacking}; give the points and what they have, such as "
            "{temperature: 300, use: test}"
        )
    return condition, settings


def _values(value, allowed, place):
    """The values of an axis that an entry names, each of which must be one of the axis."""
    wanted = value if isinstance(value, list) else [value]
    if wanted and all(isinstance(item, str | int | float) for item in wanted):
        known = {str(item): item for item in allowed}
        shown = [_spoken(item) for item in wanted]
        if all(item in known for item in shown):
            return [known[item] for item in shown]
        wanted = next(item for item in shown if item not in known)
    raise InputError(f"{place}: found {wanted}, the axis has {_listed(allowed)}; correct it")


def _spoken(item):
    is_number = isinstance(item, int | float) and not isinstance(item, bool)
    return str(Number(item)) if is_number and math.isfinite(item) else str(item)


def _listed(values):
    found = [str(value) for value in values]
    more = f", ... ({len(found)})" if len(found) > 2 * SHOWN else ""
    return ", ".join(found[: 2 * SHOWN]) + more


def _meets(point, condition):
    return all(point[name] in found for name, found in condition.items())


def _settings(grid, point, rules):
    """What a point has: of the grid, then of each entry that it meets; the last one wins."""
    settings = {name: getattr(grid, name) for name in OVERRIDES}
    for condition, own in rules:
        if _meets(point, condition):
            settings |= own
    return settings


def _use(grid, point, rules):
    use = "test" if point["temperature"] in grid.test_temperature else grid.use
    for condition, own in rules:
        if _meets(point, condition):
            use = own.get("use", use)
    return use


def _state(point, pattern, settings, use):
    words = {name: "" if value is None else value for name, value in point.items()}
    words["id"] = fill(pattern, words, "states.id")
    pressure = point["pressure"]
    state = {"id": words["id"], "use": use, "temperature": float(point["temperature"])}
    state["pressure"] = None if pressure is None else float(pressure)
    for name, value in settings.items():
        if name in PATTERNS and value is not None:
            many = isinstance(value, list)
            filled = [fill(item, words, f"states.{name}") for item in (value if many else [value])]
            value = filled if many else filled[0]
        state[name] = value
    return state, point


def fill(pattern, words, where):
    """The pattern with its words in place; numbers may have a format: {temperature:05.1f}."""
    try:
        parsed = [part for part in string.Formatter().parse(pattern) if part[1] is not None]
    except ValueError as error:
        raise InputError(f"{where}: '{pattern}' is not a pattern ({error})") from error
    for _, name, spec, conversion in parsed:
        if name not in words:
            raise InputError(
                f"{where}: '{{{name}}}' in '{pattern}' is unknown; allowed are "
                + ", ".join(f"{{{word}}}" for word in words)
            )
        fine = not spec or (isinstance(words[name], Number) and _SPEC.fullmatch(spec))
        if conversion or not fine:
            raise InputError(
                f"{where}: the format of '{{{name}}}' in '{pattern}' is not understood; leave it "
                f"out, or for a number give one such as {{{name}:05.1f}}"
            )
    return pattern.format(**words)


def _refuse_shared(states, axes):
    """Two points never have one id, trajectory or log; the message names the axis to add."""
    for key in ("id", "trajectory", "log", "dynamics"):
        seen = {}
        for state, point in states:
            for value in state[key] if isinstance(state[key], list) else [state[key]]:
                if value is None:
                    continue
                name = value.lower() if key == "id" else value
                other = seen.setdefault(name, point)
                if other is point:
                    continue
                axis = next(axis for axis in axes if other[axis] != point[axis])
                raise InputError(
                    f"states.{key}: {value} stands for two points, with {axis} {other[axis]} and "
                    f"{point[axis]}; add {{{axis}}} to the pattern"
                )


def missing(states, names):
    """An InputError that names the points whose files are missing.

    Parameters
    ----------
    states : list of dict
    names : dict
        Id to the file that was not found.
    """
    some = [f"{state} ({file})" for state, file in list(names.items())[:SHOWN]]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return InputError(
        f"states.trajectory: {len(names)} of {len(states)} points have no file: "
        f"{', '.join(some)}{more}; correct the pattern, make them (the rule reference does), or "
        "leave these points out with an entry of states.where that has use: none"
    )

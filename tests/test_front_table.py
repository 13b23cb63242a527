"""The table at the head of a report: what each cell says, and that all of it is seen."""

import re

import pytest

import browser
from browser import CHROMIUM
from remcg import front_table, page, report
from test_report import a_backmap, a_model, a_state, a_summary

PAIRS = ("A-A", "A-B", "B-B")


def a_melt(name="T300", use="train", temperature=300.0):
    """A state of bonded sites at constant pressure."""
    state = a_state(name, use, temperature)
    rdf = state["rdf"].pop("W-W")
    state["rdf"] = {pair: {**rdf, "rmse": 0.00558, "rmse_se": 0.00069} for pair in PAIRS}
    js = {"js_bits": 1e-4, "noise_floor_js_bits": 2e-4}
    state["bonded"] = {"A-B": dict(js), "A-B-A": dict(js)}
    return state


def cells(summary):
    """Text of the cells of the table, row by row, after its header."""
    text = front_table.states_table(summary, report.checks(summary))
    header = re.findall("<th>(.*?)</th>", text)
    rows = re.findall("<tr>(.*?)</tr>", text.split("<tbody>")[1])
    return header, [re.findall("(<td.*?)</td>", row) for row in rows]


def test_each_line_of_a_cell_has_the_mark_of_its_own_check():
    state = a_melt()
    state["rdf"]["A-B"].update(rmse=0.3)
    state["bonded"]["A-B-A"].update(js_bits=1e-3)
    summary = a_summary(states=[state], backmap={})
    _, ((name, rmse, floor, largest, bonded, *_, counts),) = cells(summary)
    assert name == "<td>T300<br><small>train, 300 K</small>"
    assert re.findall(r"([AB]-[AB]) .*? <i class=\"(\w+)\">", rmse) == [
        ("A-A", "pass"), ("A-B", "fails"), ("B-B", "pass"),
    ]  # fmt: skip
    assert rmse.startswith('<td class="fails">') and largest.startswith('<td class="pass">')
    assert "A-B 0.50 <i" in bonded and 'A-B-A 5.00 <i class="fails">' in bonded
    assert '2 <i class="fails">' in counts and floor.count("0.0030") == 3


def test_the_model_stands_over_what_it_is_compared_with():
    header, (row, _) = cells(a_summary())
    density = row[[text.startswith("density") for text in header].index(True)]
    assert re.search("1002.00 ± 0.80 .*<br><small>1000.00 ± 0.60</small>", density)
    pressure = row[[text.startswith("pressure") for text in header].index(True)]
    assert re.search("3.0 ± 8.0 .*<br><small>1</small>", pressure)


def test_columns_that_no_state_fills_are_left_out():
    alone = {"id": "vacuum", "use": "train", "temperature_K": 300.0}
    alone["pressure_bar"] = {"model": 0.192, "model_se": 6e-18}
    header, (row,) = cells(a_summary(states=[alone], backmap={}))
    assert [text.split("<")[0] for text in header] == ["state", "pressure"]
    assert row[1] == "<td>0.192"  # its error is one of arithmetic
    header, _ = cells(a_summary(states=[alone, a_melt("melt")], backmap={}))
    assert len(header) == len(front_table.COLUMNS)


def test_backmapped_structures_have_the_columns_that_any_of_them_fills():
    rigid = a_backmap(mapped=a_backmap())
    for item in (rigid, rigid["mapped"]):
        del item["js_bits"]
    summary = a_summary(backmap={"T300": rigid})
    text = front_table.backmap_table(summary, report.checks(summary))
    assert "JS / floor" not in text and "draws" not in text and "-1.00 ± 0.20 <i" in text
    rigid["mapped"]["js_bits"] = {"bond C1-C2": 0.0015}
    text = front_table.backmap_table(a_summary(backmap={"T300": rigid}), [])
    assert "JS / floor" in text and "1.50<br><small>bond C1-C2</small>" in text


def test_a_guess_too_far_off_for_its_compressibility_says_so():
    state = a_state()
    own = {"rdf": {"W-W": {"rmse": 0.2, "rmse_se": 0.01}},
           "pressure_bar": {"model": 2500.0, "model_se": 10.0},
           "pair_pressure_bar": {"guess": 1.0, "model": 1.0}}  # fmt: skip
    state["consistency"] = {"boltzmann": own}
    assert "<td>&lt; −5</td>" in report._baseline_table({"states": [state]})
    own["pressure_bar"]["model"] = -2500.0
    assert "<td>&gt; 5</td>" in report._baseline_table({"states": [state]})
    own["density_deviation"] = {"value": 0.03, "se": 0.001}
    assert "<td>3.00 ± 0.10</td>" in report._baseline_table({"states": [state]})


def test_of_very_many_pairs_the_worst_are_shown():
    state = a_state()
    good = state["rdf"].pop("W-W")
    names = [f"A{i}-B{i}" for i in range(20)]
    state["rdf"] = {name: {**good, "noise_floor_rmse": 0.003 + 1e-4 * i}
                    for i, name in enumerate(names)}  # fmt: skip
    state["rdf"]["A17-B17"].update(max=0.3)
    _, ((_, rmse, *_),) = cells(a_summary(states=[state], backmap={}))
    assert re.findall("A[0-9]+-B[0-9]+", rmse) == [*names[:5], "A17-B17"]
    assert "<small>and 14 more</small>" in rmse
    state["bonded"] = {f"A{i}-C": {"js_bits": i, "noise_floor_js_bits": 1} for i in range(9)}
    _, ((*_, bonded, _, _, _, _, _),) = cells(a_summary(states=[state], backmap={}))
    assert re.findall("A[0-9]-C", bonded) == [f"A{i}-C" for i in range(3, 9)]
    assert "<small>and 3 more</small>" in bonded


def test_many_failing_checks_unfold_and_do_not_push_the_table_away():
    states = [a_melt(f"T{k}") for k in range(6)]

    def banner():
        summary = a_summary(states=states, backmap={})
        return report._banner(summary, report.checks(summary))

    assert "<li>" not in banner() and "<details>" not in banner()
    for state in states[:4]:
        for pair in PAIRS:
            state["rdf"][pair].update(rmse=0.3)
    first, second = banner().split("<details>")
    assert first.count("<li>") == report.MOST_LISTED
    assert second.count("<li>") == 12 - report.MOST_LISTED and "and 2 more that fail" in second
    for state in states[1:]:
        for pair in PAIRS:
            state["rdf"][pair].update(rmse=0.015, rmse_se=0.01)
    first, second = banner().split("<details>")
    assert first.count("<li>") == 3 and "and 15 within noise" in second


MEASURE = """<script>addEventListener("load", () => {
  const wide = [...document.querySelectorAll(".wide")].map(x => x.scrollWidth - x.clientWidth);
  document.title = "over " + Math.max(document.documentElement.scrollWidth - innerWidth, ...wide);
})</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("width", [1265, 885])  # of windows of 1280 and 900 with a scroll bar
def test_all_columns_of_a_melt_are_seen_without_scrolling(tmp_path, width):
    states = [a_melt(), a_melt("T325", "test", 325.0)]
    summary = a_summary(states=states)
    text = report.front_page(summary, a_model(), report.checks(summary))
    file = tmp_path / "report.html"
    file.write_text(text.replace("</body>", f"{MEASURE}</body>"))
    document, console, _ = browser.opened(file, tmp_path, width=width)
    assert console == []
    assert re.search("<title>over (-?[0-9]+)", document).group(1) == "0"


def test_a_table_that_is_too_wide_for_a_phone_scrolls_by_itself():
    assert '<div class="wide"><table>' in front_table.states_table(a_summary(), [])
    assert ".wide { overflow-x: auto; }" in page.STYLE

"""Self-contained HTML: the frame of a page, figures with their numbers, tables."""

import base64
import csv
import html
import io
import re
from dataclasses import dataclass, replace
from pathlib import Path

TABLE = "text/tab-separated-values"
REASON = "Description"  # entry of the metadata of a picture that shows nothing
CURVES = {  # kinds of curves, of consistency/curves_<state>.tsv, that a figure shows
    "structure_factors": ("structure_factor",),
    "neighbors": ("neighbor_angles", "coordination"),
    "dynamics": ("msd", "velocity", "kernel"),
}
OF_STATES = {  # prefix of the tables of states that a figure shows
    "rdf": "rdf_",
    "distributions": "bonded_",
    **dict.fromkeys(CURVES, "curves_"),
}
NUMBERS = {"density": "states", "dynamics": "states"}
MOST_FILES = 100  # states, up to which each has tables of its own
SECTIONS = {
    "Structure": ("rdf", "distributions", "structure_factors", "neighbors"),
    "Simpler methods": ("baseline",),
    "Thermodynamics": ("density", "equation_of_state", "pareto"),
    "Transferability": ("penalties",),
    "Dynamics": ("dynamics",),
    "Model": ("potentials", "bonded_potentials", "bands"),
    "Learning": ("convergence", "relative_entropy", "noise", "spectrum", "directions"),
}
REST = "Backmapping"
DPI, PIXELS_PER_INCH = 150, 108  # of the files, on the page


@dataclass(frozen=True)
class Figure:
    """A picture with its caption and the numbers that it shows.

    Attributes
    ----------
    content : bytes
        PNG.
    caption : str
        Restructured text with ``**bold**`` and ````code```` only.
    tables : tuple of (str, str)
        File name and text of each table.
    name : str
        Of the file, without its ending.
    is_photo : bool
        Colours stay as they are on a dark page.
    reason : str
        Why there is nothing to show; it then stands in place of the picture and its caption.
    """

    content: bytes
    caption: str
    tables: tuple = ()
    name: str = ""
    is_photo: bool = False
    reason: str = ""


def read_figure(png, caption, states):
    """A figure and its numbers, from the files beside it.

    Parameters
    ----------
    png, caption : path
        Picture and restructured text.
    states : sequence of str
        Of the campaign, in order.
    """
    from PIL import Image

    png = Path(png)
    photo = png.stem == "backmap_picture"
    tables = tables_of(png, states)
    with Image.open(png) as picture:
        reason = picture.info.get(REASON, "")
    return Figure(png.read_bytes(), Path(caption).read_text(), tables, png.stem, photo, reason)


def tables_of(png, states):
    """((file name, text), ...) of the numbers in a figure; none where there is no table.

    Tables of other states, that the campaign had before, may lie beside them and are left out.
    """
    png = Path(png)
    folder, name = png.parent, png.stem
    found = []
    if name in OF_STATES:
        prefix = OF_STATES[name]
        whole = folder / f"{prefix}states.tsv"
        paths = {state: folder / f"{prefix}{state}.tsv" for state in states}
        texts = {state: path.read_text() for state, path in paths.items() if path.is_file()}
        if len(states) > MOST_FILES and whole.is_file():
            text = whole.read_text()
        else:
            text = joined(texts, CURVES.get(name))
        found += [(f"{name}.tsv", text)] if text else []
    path = folder / f"{NUMBERS.get(name, name)}.tsv"
    if path.is_file():
        ending = "_states" if found else ""
        found.append((f"{name}{ending}.tsv", path.read_text()))
    return tuple(found)


def joined(texts, kinds=None):
    """Tables of states as one with a first column ``state``; of curves only some ``kinds``.

    Parameters
    ----------
    texts : dict
        State to a tab-separated table.
    kinds : sequence of str, optional
        Values of the first column that are kept.
    """
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\t", lineterminator="\n")
    for k, (state, text) in enumerate(texts.items()):
        header, *rows = csv.reader(io.StringIO(text), delimiter="\t")
        if k == 0:
            writer.writerow(["state", *header])
        writer.writerows([state, *row] for row in rows if kinds is None or row[0] in kinds)
    return out.getvalue()


def figure(item):
    """HTML of a :class:`Figure`."""
    title = re.match(r"\s*\*\*(.+?)\*\*", item.caption, re.S)
    alt = html.escape(" ".join(title.group(1).split()).rstrip(".")) if title else ""
    if item.reason:
        return f"<p class=key><b>{alt}.</b> {html.escape(item.reason)}</p>"
    image = base64.b64encode(item.content).decode()
    kind = ' class="photo"' if item.is_photo else ""
    source = f"data:image/png;base64,{image}"
    links = "".join(download(name, text) for name, text in item.tables)
    return (
        f'<figure{kind}><div class="wide"><img src="{source}" alt="{alt}" '
        f'width="{_width(item.content)}"></div>'
        f"<figcaption>{marked_up(item.caption)}{links}</figcaption></figure>"
    )


def _width(png):
    """Of a picture on the page, so that letters of all figures have one size."""
    return round(int.from_bytes(png[16:20], "big") * PIXELS_PER_INCH / DPI)


def download(name, text):
    """A link that saves a table."""
    content = base64.b64encode(text.encode()).decode()
    return (
        f' <a class="download" download="{html.escape(name)}" '
        f'href="data:{TABLE};base64,{content}">{html.escape(name)}</a>'
    )


def marked_up(caption):
    """Restructured text of a caption as HTML."""
    text = html.escape(" ".join(caption.split()), quote=False)
    text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", text)
    return re.sub(r"``(.+?)``", r"<code>\1</code>", text)


def table(header, rows):
    """HTML of a table; cells are HTML, of the rows (text, class) or text."""
    head = "".join(f"<th>{name}</th>" for name in header)
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>'
        "</div>"
    )


def _cell(item):
    text, kind = item if isinstance(item, tuple) else (item, "")
    return f'<td class="{kind}">{text}</td>' if kind else f"<td>{text}</td>"


def sections(figures, before=None):
    """Figures under the headings of ``SECTIONS``, with links to them.

    Parameters
    ----------
    figures : sequence of Figure
    before : dict, optional
        HTML at the head of a section.

    Returns
    -------
    (str, str)
        Links, and the sections.
    """
    before = before or {}
    place = {name: title for title, names in SECTIONS.items() for name in names}
    found = {title: [] for title in (*SECTIONS, REST)}
    told = set()
    for item in figures:
        short = replace(item, caption=_title(item.caption)) if item.caption in told else item
        told.add(item.caption)
        found[place.get(item.name, REST)].append(figure(short))
    shown = {title: [before.get(title, ""), *rows] for title, rows in found.items()}
    shown = {title: rows for title, rows in shown.items() if any(rows)}
    links = " ".join(f'<a href="#{_anchor(title)}">{title}</a>' for title in shown)
    parts = [
        "\n".join(
            [f'<section><h2 id="{_anchor(title)}">{title}</h2>', *filter(None, rows), "</section>"]
        )
        for title, rows in shown.items()
    ]
    return (f"<nav>{links}</nav>" if len(shown) > 1 else ""), "\n".join(parts)


def _title(caption):
    """The first words of a caption that was already read below a figure of its kind."""
    found = re.match(r"\s*\*\*.+?\*\*", caption, re.S)
    return f"{found.group(0)} As above, for another state." if found else caption


def _anchor(title):
    return title.lower().replace(" ", "-")


def page(title, body, script=""):
    """The whole document, for light and dark screens and for paper."""
    code = f"<script>{script}</script>" if script else ""
    parts = {"@TITLE@": html.escape(title), "@STYLE@": STYLE, "@BODY@": body + code}
    return re.sub("@(TITLE|STYLE|BODY)@", lambda found: parts[found.group(0)], PAGE)


PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>@TITLE@: remcg</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;
 style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<style>@STYLE@</style></head><body>
@BODY@
</body></html>
"""

STYLE = """
:root { --paper: #ffffff; --ink: #1c1c1c; --faint: #555; --line: #ddd; --rule: #444;
  --good: #0072b2; --good-ground: #eaf4fb; --bad: #d55e00; --bad-ground: #fcefe6;
  --noise: #8a6d00; --noise-ground: #fdf6dd; }
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #1d1d1d; --ink: #e4e4e4; --faint: #a6a6a6; --line: #34373b; --rule: #8a8a8a;
    --good: #6cbcf0; --good-ground: #14293a; --bad: #ff9a52; --bad-ground: #3a2215;
    --noise: #e6c34a; --noise-ground: #332c12; }
  figure:not(.photo) img { filter: invert(.91) hue-rotate(180deg) brightness(1.25); }
  figure.photo img { background: #fff; border-radius: 6px; }
}
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1240px; margin: 1.6em auto; padding: 0 1em; }
h1 { font-size: 1.6em; margin: 0 0 .2em; }
h2 { font-size: 1.25em; margin: 2em 0 .5em; padding-bottom: .15em;
  border-bottom: 1px solid var(--line); }
h3 { font-size: 1em; margin: 1.4em 0 .4em; }
a { color: var(--good); }
nav { margin: 1em 0 0; display: flex; flex-wrap: wrap; gap: .3em 1.1em; font-size: .9em; }
.lead { margin: 0 0 .8em; }
.banner { padding: .6em .9em; border-left: 5px solid; margin: 0 0 1em; }
.banner ul { margin: .3em 0 0; padding-left: 1.3em; }
.banner summary { cursor: pointer; margin: .3em 0 0; }
.banner.pass { background: var(--good-ground); border-color: var(--good); }
.banner.fails { background: var(--bad-ground); border-color: var(--bad); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .84em; width: 100%; }
th { text-align: right; font-weight: 600; vertical-align: bottom;
  border-bottom: 2px solid var(--rule); }
td { text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th, td { padding: .3em .45em; font-variant-numeric: tabular-nums; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
td i { font-style: normal; font-weight: 700; }
td small, th small { font-size: 1em; font-weight: 400; color: var(--faint); }
i.pass { color: var(--good); } i.within { color: var(--noise); } i.fails { color: var(--bad); }
td.within { background: var(--noise-ground); } td.fails { background: var(--bad-ground); }
.key, footer { font-size: .82em; color: var(--faint); }
figure { margin: 1.4em 0 2em; }
figure img { max-width: 100%; height: auto; display: block; margin: 0 auto; }
figcaption { font-size: .9em; max-width: 66em; margin: .6em 0 0; }
a.download { white-space: nowrap; }
a.download::before { content: "\\2193\\a0"; }
.note { max-width: 66em; font-size: .9em; }
.scene canvas { width: 100%; height: 460px; display: block; touch-action: none; cursor: grab; }
.legend { display: flex; flex-wrap: wrap; justify-content: center; gap: .2em 1.2em;
  font-size: .85em; }
.legend i { display: inline-block; width: .8em; height: .8em; border-radius: 50%;
  margin-right: .4em; border: 1px solid #888; }
@media screen and (max-width: 1060px) {
  table { font-size: .76em; } th, td { padding: .3em .3em; }
}
@media screen and (max-width: 720px) {
  figure img { max-width: none; width: max(720px, 100%); }
  figure.photo img { max-width: 100%; width: auto; }
  td:first-child, th:first-child { position: sticky; left: 0; background: var(--paper); }
}
@media print {
  body { font-size: 11px; max-width: none; margin: 0; }
  nav, a.download, .scene label { display: none; }
  .wide { overflow: visible; }
  details::details-content { content-visibility: visible; height: auto; }
  table { font-size: .68em; } th, td { padding: .2em .25em; white-space: normal; }
  figure, tr, .banner { break-inside: avoid; }
  figure img { max-height: 235mm; width: auto; }
  h2, h3 { break-after: avoid; }
  td.pass, td.within, td.fails, .banner { print-color-adjust: exact; }
  .scene canvas { height: 300px; }
}
"""

"""Sites and atoms of one configuration that can be turned in a web page, without any library."""

import html
import json
from pathlib import Path

import numpy as np

from remcg.boxes import many
from remcg.io import open_h5
from remcg.plot_backmap import ELEMENT_COLORS, SITE_COLORS, bonds_of, radius_of
from remcg.sample import read_topology

REACH = 0.95  # nm around the middle of the box
MOST_SITES = 700
SITE = 0.09  # nm, radius of a drawn site


def read(path, campaign):
    """HTML of the first configuration of a file: ``backmap/<state>.h5`` or ``predict/<state>.h5``.

    Parameters
    ----------
    path : path
    campaign : remcg.config.Campaign
    """
    state = Path(path).stem
    with open_h5(path) as file:
        if not len(file["positions"]):
            return f"<p class=key>No frame of {html.escape(state)} could be backmapped.</p>"
        positions, box = file["positions"][0], file["box"][0] if "box" in file else None
        if "site_types" in file:
            names, topology = json.loads(file.attrs["site_names"]), read_topology(file)
            scene = scene_of_sites(positions, box, topology, names)
            return figure(scene, f"Coarse-grained sites of {state}")
    from remcg.mapping import sites_of

    topology, mapped = sites_of(campaign.topology(state), campaign.system.mapping)
    scene = scene_of_atoms(topology, mapped, positions, box)
    return figure(scene, f"Backmapped atoms and their sites, {state}")


def scene_of_atoms(topology, mapped, positions, box=None):
    """Whole molecules around the middle of a box, atoms and sites.

    Parameters
    ----------
    topology : mdtraj.Topology
    mapped : remcg.mapping.Sites
    positions : ndarray, shape (n_atoms, 3), nm
        Molecules whole.
    box : ndarray, shape (3,) or (3, 3), optional

    Returns
    -------
    dict
        balls: lists of x, y, z, radius (nm, from the middle), colour, 0 for atoms and 1 for sites;
        sticks: pairs of balls; names: label to colour.
    """
    centres = np.array([positions[list(atoms)].mean(axis=0) for atoms in mapped.atoms])
    shifts, near = _around(centres, box, len(mapped.atoms))
    scene = {"balls": [], "sticks": [], "names": {}}
    place = {}
    for molecule in near:
        for atom in map(int, mapped.atoms[molecule]):
            radius, symbol = radius_of(topology, atom)
            if symbol == "VS":
                continue
            color = ELEMENT_COLORS.get(symbol, "#C060C0")
            place["atom", atom] = _add(
                scene, positions[atom] + shifts[molecule], radius, color, 0, symbol
            )
        for site in np.flatnonzero(mapped.molecule == molecule):
            at = np.asarray(mapped.matrix[[site]] @ positions).ravel() + shifts[molecule]
            kind = int(mapped.site_types[site])
            label = f"site {mapped.names[kind]}"
            color = SITE_COLORS[kind % len(SITE_COLORS)]
            place["site", int(site)] = _add(scene, at, SITE, color, 1, label)
    pairs = [(("atom", int(a)), ("atom", int(b))) for a, b in bonds_of(topology)]
    scene["sticks"] = [[place[a], place[b]] for a, b in pairs if a in place and b in place]
    return scene


def scene_of_sites(positions, box, topology, names):
    """Whole molecules of sites around the middle of a box, like :func:`scene_of_atoms`.

    Parameters
    ----------
    positions : ndarray, shape (n_sites, 3), nm
    box : ndarray, shape (3,) or (3, 3)
    topology : remcg.topology.Topology
    names : sequence of str
        Of the site types.
    """
    whole = topology.make_whole(positions, box)
    members = [np.flatnonzero(topology.molecule == m) for m in range(topology.n_molecules)]
    centres = np.array([whole[rows].mean(axis=0) for rows in members])
    shifts, near = _around(centres, box, topology.n_sites)
    scene, place = {"balls": [], "sticks": [], "names": {}}, {}
    for molecule in near:
        for site in members[molecule]:
            kind = int(topology.site_types[site])
            color = SITE_COLORS[kind % len(SITE_COLORS)]
            at = whole[site] + shifts[molecule]
            place[int(site)] = _add(scene, at, SITE, color, 1, f"site {names[kind]}")
    scene["sticks"] = [
        [place[int(a)], place[int(b)]] for a, b in topology.bonds if int(a) in place
    ]  # fmt: skip
    return scene


def _around(centres, box, n_sites):
    """Shift of every molecule to the image next to the middle, and those that are shown."""
    shifts = np.zeros_like(centres)
    middle = centres.mean(axis=0)
    if box is not None:
        cell = many(np.asarray(box, float)[None])[0]
        middle = 0.5 * cell.sum(axis=0)
        fractional = (centres - middle) @ np.linalg.inv(cell)
        shifts = -np.round(fractional) @ cell
    distances = np.linalg.norm(centres + shifts - middle, axis=1)
    order = np.argsort(distances)
    per_molecule = max(n_sites / len(centres), 1.0)
    near = [m for m in order if distances[m] < REACH][: int(MOST_SITES / per_molecule)]
    return shifts - middle, near or order[:1].tolist()


def _add(scene, at, radius, color, is_site, label):
    from matplotlib.colors import to_hex

    color = to_hex(color)
    scene["balls"].append([*(round(float(x), 3) for x in at), round(float(radius), 3), color,
                           is_site])  # fmt: skip
    scene["names"][label] = color
    return len(scene["balls"]) - 1


def figure(scene, title):
    """The scene as an HTML figure: drag or arrow keys to turn, wheel to come nearer.

    Parameters
    ----------
    scene : dict
    title : str
    """
    key = "".join(
        f'<span><i style="background:{color}"></i>{html.escape(label)}</span>'
        for label, color in sorted(scene["names"].items())
    )
    has_atoms = any(not ball[5] for ball in scene["balls"])
    chosen = (
        '<label><input type="checkbox" data-kind="0" checked> atoms</label>'
        '<label><input type="checkbox" data-kind="1" checked> sites</label>'
        if has_atoms
        else ""
    )
    still = " Without scripts: the rendered picture at the end of the page." if has_atoms else ""
    return (
        f'<figure class="scene"><canvas tabindex="0" role="img" aria-label="{html.escape(title)}">'
        f'</canvas><div class="legend">{key}{chosen}</div><script type="application/json">'
        f"{json.dumps(scene, separators=(',', ':'))}</script><figcaption><b>{html.escape(title)}."
        "</b> Drag, or use the arrow keys, to turn it; the wheel with the control key, or + and -, "
        f"comes nearer. Whole molecules around the middle of the box.{still}</figcaption></figure>"
    )


SCRIPT = """
for (const scene of document.querySelectorAll('figure.scene')) {
  const canvas = scene.querySelector('canvas'), context = canvas.getContext('2d');
  const data = JSON.parse(scene.querySelector('script').textContent);
  const shown = [true, true];
  let turn = [1, 0, 0, 0, 1, 0, 0, 0, 1], zoom = 1, held = null;
  const size = Math.max(...data.balls.map(b => Math.hypot(b[0], b[1], b[2]) + b[3]), 0.1);
  function rotate(a, b) {
    const [ca, sa, cb, sb] = [Math.cos(a), Math.sin(a), Math.cos(b), Math.sin(b)];
    const by = [cb, 0, sb, sa * sb, ca, -sa * cb, -ca * sb, sa, ca * cb], old = turn;
    turn = by.map((_, n) => [0, 1, 2].reduce(
      (sum, k) => sum + by[3 * Math.floor(n / 3) + k] * old[3 * k + n % 3], 0));
  }
  function mixed(color, ground, share) {
    const read = c => [1, 3, 5].map(i => parseInt(c.slice(i, i + 2), 16));
    const [a, b] = [read(color), read(ground)];
    const hex = x => Math.round(x).toString(16).padStart(2, '0');
    return '#' + a.map((x, i) => hex(x + share * (b[i] - x))).join('');
  }
  function draw() {
    const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth;
    const height = canvas.clientHeight;
    canvas.width = width * ratio; canvas.height = height * ratio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const ground = getComputedStyle(document.body).getPropertyValue('--paper').trim();
    const scale = 0.48 * zoom * Math.min(width, height) / size;
    const at = data.balls.map(b => [0, 3, 6].map(
      r => turn[r] * b[0] + turn[r + 1] * b[1] + turn[r + 2] * b[2]));
    const items = [];
    data.balls.forEach((b, i) => { if (shown[b[5]]) items.push([at[i][2], b, i]); });
    for (const [i, j] of data.sticks)
      if (shown[data.balls[i][5]]) items.push([(at[i][2] + at[j][2]) / 2 - 0.01, null, i, j]);
    items.sort((p, q) => p[0] - q[0]);
    for (const [depth, ball, i, j] of items) {
      const fog = 0.65 * Math.min(Math.max(0.5 - depth / (2 * size), 0), 1);
      const [x, y] = [width / 2 + scale * at[i][0], height / 2 - scale * at[i][1]];
      if (!ball) {
        context.strokeStyle = mixed('#777777', ground, fog);
        context.lineWidth = Math.max(0.03 * scale, 1.5);
        context.beginPath(); context.moveTo(x, y);
        context.lineTo(width / 2 + scale * at[j][0], height / 2 - scale * at[j][1]);
        context.stroke();
        continue;
      }
      const radius = scale * ball[3];
      const light = context.createRadialGradient(
        x - 0.35 * radius, y - 0.35 * radius, 0.1 * radius, x, y, radius);
      light.addColorStop(0, mixed(mixed(ball[4], '#ffffff', 0.6), ground, fog));
      light.addColorStop(1, mixed(ball[4], ground, fog));
      context.globalAlpha = ball[5] && shown[0] && data.balls.some(b => !b[5]) ? 0.45 : 1;
      context.fillStyle = light;
      context.beginPath(); context.arc(x, y, radius, 0, 2 * Math.PI); context.fill();
      context.strokeStyle = mixed('#333333', ground, 0.4 + fog / 2);
      context.lineWidth = 0.6; context.stroke();
      context.globalAlpha = 1;
    }
  }
  canvas.addEventListener('pointerdown', e => {
    held = [e.clientX, e.clientY]; canvas.setPointerCapture(e.pointerId);
  });
  canvas.addEventListener('pointerup', () => { held = null; });
  canvas.addEventListener('pointermove', e => {
    if (!held) return;
    rotate((e.clientY - held[1]) / 120, (e.clientX - held[0]) / 120);
    held = [e.clientX, e.clientY]; draw();
  });
  canvas.addEventListener('wheel', e => {
    if (!e.ctrlKey) return;
    e.preventDefault(); zoom = Math.min(Math.max(zoom * Math.exp(-e.deltaY / 400), 0.4), 6); draw();
  }, {passive: false});
  canvas.addEventListener('keydown', e => {
    const way = {ArrowLeft: [0, -.1], ArrowRight: [0, .1], ArrowUp: [-.1, 0], ArrowDown: [.1, 0]};
    if (e.key in way) rotate(...way[e.key]);
    else if (e.key == '+' || e.key == '-') zoom *= e.key == '+' ? 1.15 : 1 / 1.15;
    else return;
    e.preventDefault(); draw();
  });
  for (const box of scene.querySelectorAll('input'))
    box.addEventListener('change', () => { shown[box.dataset.kind] = box.checked; draw(); });
  window.addEventListener('resize', draw);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  rotate(0.35, 0.5); draw();
}
"""

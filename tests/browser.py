"""A page in headless chromium: what it became, what it complained of, what it asked for."""

import json
import re
import shutil
import subprocess

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


def opened(path, folder, dark=False, width=800):
    """Open a page without a network.

    Parameters
    ----------
    path : Path
        HTML.
    folder : Path
        For the profile and the log of requests.
    dark : bool
        Whether the reader prefers dark pages.
    width : int
        Of the window, pixels.

    Returns
    -------
    (str, list of str, set of str)
        The document after its scripts; messages of the console; addresses that the page asked for
        (http, https, ws), not those that the browser asks for itself.
    """
    requests = folder / "requests.json"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    options += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=2000"]
    options += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--log-net-log={requests}"]
    options += [f"--window-size={width},900"]
    options += ["--blink-settings=preferredColorScheme=0"] * dark
    run = subprocess.run(
        [CHROMIUM, *options, "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    console = [line for line in run.stderr.splitlines() if "CONSOLE" in line]
    events = (event.get("params", {}) for event in json.loads(requests.read_text())["events"])
    asked = {item["url"] for item in events if item.get("initiator", OWN) != OWN and "url" in item}
    return run.stdout, console, {url for url in asked if re.match("(http|ws)s?:", url)}


OWN = "not an origin"  # what the browser asks for itself has no page

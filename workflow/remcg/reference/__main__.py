"""A reference outside the workflow: ``python -m remcg.reference config/x.yaml T300 folder``.

Writes ``folder/T300.xtc``, ``.csv`` and ``.pdb``; a killed run goes on when it is called again.
"""

import argparse
from pathlib import Path

from remcg.config import load
from remcg.errors import InputError
from remcg.reference import make_reference


def main(arguments=None):
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="remcg.reference", description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("state")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args(arguments)
    files = [chosen.folder / f"{chosen.state}.{suffix}" for suffix in ("xtc", "csv", "pdb")]
    try:
        campaign = load(chosen.config, check_files=False)
        known = [state.id for state in campaign.states]
        if chosen.state not in known:
            raise InputError(f"there is no state {chosen.state}; give one of {', '.join(known)}")
        chosen.folder.mkdir(parents=True, exist_ok=True)
        make_reference(campaign, chosen.state, *files, chosen.threads, _print)
    except InputError as error:
        parser.exit(1, f"error: {error}\n")


def _print(time):
    print(f"{time:.0f} ps", flush=True)


if __name__ == "__main__":
    main()

"""``python -m benchtools.peak CONFIG STATE FOLDER``: map a state and print the peak memory, MiB."""

import resource
import sys
from pathlib import Path

from remcg import config, mapping


def main():
    path, state, folder = sys.argv[1:]
    output = Path(folder) / "map.h5"
    mapping.map_trajectory(config.load(path), state, output, output.with_suffix(".json"))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0)


if __name__ == "__main__":
    main()

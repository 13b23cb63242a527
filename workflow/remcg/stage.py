"""What every serial script shares: its log, its errors for users, and the time it computed."""

import sys
import time
import traceback
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from remcg.errors import InputError, SamplingError
from remcg.provenance import machine_line


@contextmanager
def stage(log):
    """Send what a script prints to its log; a user's mistake ends it with one paragraph.

    The last line of the log, ``busy_core_seconds``, is the time spent inside the block on one core.
    """
    with open(log, "w", buffering=1) as stream, redirect_stdout(stream), redirect_stderr(stream):
        start = time.perf_counter()
        print(machine_line())
        try:
            yield
        except (InputError, SamplingError) as error:
            print(f"error: {error}")
            raise SystemExit(1) from None
        except Exception:
            traceback.print_exc()
            raise SystemExit(1) from None
        finally:
            print(f"busy_core_seconds {time.perf_counter() - start:.3f}")
            sys.stdout.flush()

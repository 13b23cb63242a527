"""Seeds that depend on names, never on the order of jobs."""

import hashlib
import json


def derived_seed(*key, bits=31):
    """Non-negative integer seed from any sequence of strings and integers."""
    digest = hashlib.sha256(json.dumps(key).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - bits)

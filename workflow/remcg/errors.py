"""Errors that a user can mend: one paragraph, no traceback."""


class InputError(Exception):
    """What was found, where, what is allowed, and what to do."""


class SamplingError(Exception):
    """A simulation of the CG model cannot go on: state, replica, step and reason."""

"""Errors that a user can mend: one paragraph, no traceback."""


class InputError(Exception):
    """What was found, where, what is allowed, and what to do."""


class SamplingError(Exception):
    """A simulation of the CG model cannot go on: state, replica, step and reason."""


def attempted(attempt, items, expected):
    """What ``attempt`` gives for each item, one after another, as far as it does not fail.

    Parameters
    ----------
    attempt : callable
        Called with an item.
    items : iterable
    expected : tuple of exceptions
        With which an attempt may fail; the first of them is raised if all do.

    Returns
    -------
    (list, list)
        Results, and the errors of the attempts that failed.
    """
    found, lost = [], []
    for item in items:
        try:
            found.append(attempt(item))
        except expected as error:
            lost.append(error)
    if not found:
        raise lost[0]
    return found, lost

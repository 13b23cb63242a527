"""Our engine: the replica that a campaign runs."""

from benchtools.systems import DEFAULTS
from benchtools.timing import Stopwatch
from remcg.engine.replica import Replica

ENDLESS = 10**9  # steps
MANY_SAMPLES = 10**5


class Ours:
    """A replica of a system that runs on from one measurement to the next."""

    def __init__(self, system, pressure_bar=None, sample_interval=None, rdf_edges=None, tuning=0):
        """No samples are taken without ``sample_interval``; ``tuning``: steps before the first."""
        n_steps = MANY_SAMPLES * sample_interval if sample_interval else ENDLESS
        self.replica = Replica(
            system.model,
            system.start,
            system.temperature,
            pressure_bar,
            n_steps=n_steps,
            n_equilibration=tuning,
            timestep=system.timestep,
            friction=system.friction,
            barostat_interval=DEFAULTS.barostat_interval,
            sample_interval=sample_interval or n_steps,
            rdf_edges=rdf_edges,
        )
        self.replica.run_chunk()  # loads the kernels
        while self.replica.step < tuning:
            self.replica.run_chunk()

    def measure(self, seconds, least_steps=0):
        """Whole chunks, which begin with a new neighbour list as in a campaign."""
        first, watch = self.replica.step, Stopwatch()
        while watch.cpu < seconds or self.replica.step - first < least_steps:
            self.replica.run_chunk()
        return watch.timing(self.replica.step - first)

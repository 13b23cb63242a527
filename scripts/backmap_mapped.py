"""Atomistic configurations for a few mapped reference frames of one state, to test the sampler."""

from remcg.backmap import stages
from remcg.config import load
from remcg.stage import stage

with stage(snakemake.log[0]):
    given, output = snakemake.input, snakemake.output
    stages.carry_out(
        "mapped",
        load(snakemake.config["config_file"], check_files=False),
        (snakemake.wildcards.state, snakemake.params.template_state),
        (given.template_map, given.reference_map),
        (output.atoms, output.comparison, output.numbers),
    )

"""Basis sums, distributions and volumes of one mapped trajectory."""

from remcg import target, terms
from remcg.config import load
from remcg.io import write_h5
from remcg.stage import stage

with stage(snakemake.log[0]):
    campaign = load(snakemake.config["config_file"], check_files=False)
    _, found = terms.read(snakemake.input.terms)
    arrays, attributes = target.compute(
        snakemake.input.sites,
        found,
        next(iter(snakemake.input.energies), None),
        forces=campaign.matches_forces(snakemake.wildcards.state),
        exclude=campaign.exclude,
    )
    write_h5(snakemake.output[0], arrays, attributes)

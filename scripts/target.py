"""Basis sums, distributions and volumes of one mapped trajectory."""

from remcg import target
from remcg.config import load
from remcg.io import read_json, write_h5
from remcg.stage import stage

with stage(snakemake.log[0]):
    campaign = load(snakemake.config["config_file"], check_files=False)
    onsets = [read_json(path)["onset"] for path in snakemake.input.facts]
    terms = target.pair_basis(campaign.model, onsets)
    arrays, attributes = target.compute(
        snakemake.input.sites,
        terms,
        next(iter(snakemake.input.energies), None),
        forces=campaign.needs_forces(snakemake.wildcards.state),
    )
    write_h5(snakemake.output[0], arrays, attributes)

"""Map one atomistic trajectory to CG sites."""

from remcg import mapping
from remcg.config import load
from remcg.stage import stage

with stage(snakemake.log[0]):
    campaign = load(snakemake.config["config_file"], check_files=False)
    mapping.map_trajectory(
        campaign, snakemake.wildcards.state, snakemake.output.sites, snakemake.output.facts
    )

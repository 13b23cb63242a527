"""Make one short atomistic trajectory with frames close in time."""

from remcg.config import load
from remcg.reference import make_dynamics
from remcg.stage import stage

with stage(snakemake.log[0]):
    make_dynamics(
        load(snakemake.config["config_file"], check_files=False),
        snakemake.wildcards.state,
        snakemake.input.sites,
        snakemake.output[0],
        threads=snakemake.threads,
        progress=lambda time: print(f"{time:.1f} ps"),
    )

"""Make one atomistic reference trajectory."""

from remcg.config import load
from remcg.reference import make_reference
from remcg.stage import stage

with stage(snakemake.log[0]):
    make_reference(
        load(snakemake.config["config_file"], check_files=False),
        snakemake.wildcards.state,
        snakemake.output.trajectory,
        snakemake.output.log,
        snakemake.output.topology,
        threads=snakemake.threads,
        progress=lambda time: print(f"{time:.0f} ps"),
    )

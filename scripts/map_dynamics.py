"""Map one short atomistic trajectory with frames close in time."""

from remcg.config import load
from remcg.consistency.short_run import map_short_run
from remcg.stage import stage

with stage(snakemake.log[0]):
    map_short_run(
        load(snakemake.config["config_file"], check_files=False),
        snakemake.wildcards.state,
        list(snakemake.input.trajectory),
        snakemake.output[0],
    )

"""Make one atomistic reference trajectory."""

from remcg.config import load
from remcg.reference import simulate
from remcg.stage import stage
from remcg.streams import derived_seed

with stage(snakemake.log[0]):
    campaign = load(snakemake.config["config_file"], check_files=False)
    state = next(s for s in campaign.states if s.id == snakemake.wildcards.state)
    simulate(
        snakemake.input.topology,
        campaign.system.force_field,
        state.temperature,
        state.pressure,
        snakemake.output.trajectory,
        snakemake.output.log,
        derived_seed(campaign.seed, "reference", state.id),
        threads=snakemake.threads,
        progress=lambda time: print(f"{time:.0f} ps"),
        **vars(campaign.reference),
    )

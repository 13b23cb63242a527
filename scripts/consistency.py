"""Structure, dynamics and symmetries of one prediction against its reference."""

from remcg.config import load
from remcg.consistency import campaign as tables
from remcg.consistency import state
from remcg.consistency.short_run import read_short_run
from remcg.io import read_h5, write_h5, write_json
from remcg.model import Model
from remcg.stage import stage
from remcg.streams import derived_seed

with stage(snakemake.log[0]):
    campaign = load(snakemake.config["config_file"], check_files=False)
    name = snakemake.wildcards.state
    numbers, curves = state.analyse(
        snakemake.input.sites,
        read_h5(snakemake.input.target),
        read_h5(snakemake.input.prediction),
        Model.read(snakemake.input.model),
        campaign.sample.timestep * campaign.sample.sample_interval,
        derived_seed(campaign.seed, campaign.campaign, "consistency", name),
        short_run=next(map(read_short_run, snakemake.input.short_run), None),
    )
    facts = campaign.state(name)
    found = {"id": name, "use": facts.use, "temperature_K": facts.temperature, **numbers}
    write_json(snakemake.output.numbers, found)
    write_h5(snakemake.output.curves, tables.as_arrays(curves))
    tables.write_curve_table(snakemake.output.table, curves, state.UNITS)

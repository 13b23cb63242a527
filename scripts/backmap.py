"""Atomistic configurations for a few frames of one prediction."""

from remcg import backmap
from remcg.config import load
from remcg.io import read_h5, write_json
from remcg.mapping import operator
from remcg.stage import stage
from remcg.streams import derived_seed

with stage(snakemake.log[0]):
    campaign = load(snakemake.config["config_file"], check_files=False)
    state = next(s for s in campaign.states if s.id == snakemake.wildcards.state)
    frames, _ = read_h5(snakemake.input.sites)
    matrix, molecules = operator(snakemake.input.topology, snakemake.input.mapping)
    chosen = backmap.evenly_spaced(len(frames["trajectory"]), campaign.backmap.frames)
    arrays = backmap.backmap(
        frames["trajectory"][chosen],
        frames["trajectory_box"][chosen],
        snakemake.input.topology,
        matrix,
        molecules,
        backmap.read_templates(snakemake.input.templates[0], snakemake.input.topology, molecules),
        campaign.system.force_field,
        state.temperature,
        derived_seed(campaign.seed, campaign.campaign, "backmap", state.id),
        steps=campaign.backmap.steps,
        stiffness=campaign.backmap.stiffness,
        progress=lambda n: print(f"{n} frames"),
    )
    energy = read_h5(snakemake.input.target)[0].get("energy")
    numbers = backmap.summarise(arrays, len(molecules), energy)
    write_json(snakemake.output.numbers, numbers)
    backmap.write_backmapped(snakemake.output.atoms, arrays, snakemake.input.topology, state.id)

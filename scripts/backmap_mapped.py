"""Atomistic configurations for a few mapped reference frames of one state, to test the sampler."""

from remcg.backmap import remove_frames, stages
from remcg.config import load
from remcg.stage import stage

with stage(snakemake.log[0]):
    state = stages.State(
        load(snakemake.config["config_file"], check_files=False),
        snakemake.wildcards.state,
        snakemake.params.template_state,
        snakemake.input.template_map,
        snakemake.input.reference_map,
    )
    folder = stages.frames_folder(snakemake.output.atoms)
    found = stages.mapped(state, folder)
    output = snakemake.output
    stages.write(*found, state, output.atoms, output.comparison, output.numbers, views=False)
    remove_frames(folder)

"""The final model as input files of other programs, and its card."""

from pathlib import Path

import numpy as np

from remcg import export
from remcg.config import load
from remcg.io import read_h5
from remcg.model import Model
from remcg.model_card import write_card
from remcg.sample import read_topology
from remcg.stage import stage

with stage(snakemake.log[0]):
    campaign = load(snakemake.config["config_file"], check_files=False)
    model = Model.read(snakemake.input.model)
    arrays, attributes = read_h5(snakemake.input.start[0])
    start = export.Start(
        arrays["positions"][0],
        arrays["box"][0],
        arrays["site_types"],
        model.site_types,
        np.asarray(arrays["masses"]),
        int(attributes["n_molecules"]),
        read_topology(arrays),
    )
    folder = Path(snakemake.output.lammps).parent
    dynamics = campaign.sample.timestep, campaign.sample.friction
    export.write_all(folder, model, campaign.states, start, *dynamics)
    write_card(
        snakemake.output.card,
        campaign.campaign,
        model,
        campaign.states,
        campaign.sample.timestep,
        [path.name for path in folder.iterdir()],
    )

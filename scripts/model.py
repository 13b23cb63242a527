"""The final model with the uncertainty of its parameters and the hashes of what it came from."""

from remcg.config import load
from remcg.ensembles import read_observation, read_training_data
from remcg.io import read_json
from remcg.model import Model
from remcg.optimize import finish
from remcg.provenance import input_hashes
from remcg.stage import stage

with stage(snakemake.log[0]):
    campaign = load(snakemake.config["config_file"], check_files=False)
    model = Model.read(snakemake.input.model)
    inputs = snakemake.input.targets, snakemake.input.samples
    model = finish(
        model,
        read_training_data(model, campaign.training, *inputs),
        [read_observation(path) for path in snakemake.input.records],
        read_json(snakemake.input.plans[-1])["verdict"],
        input_hashes(campaign),
    )
    model.write(snakemake.output[0])

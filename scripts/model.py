"""The final model with the uncertainty of its parameters, and what its iterations learned."""

from remcg import learned, methods
from remcg.config import load
from remcg.ensembles import read_observation, read_training_data
from remcg.io import members, read_json
from remcg.model import Model
from remcg.optimize import finish
from remcg.provenance import input_hashes
from remcg.stage import stage

with stage(snakemake.log[0]):
    campaign = load(snakemake.config["config_file"], check_files=False)
    model = Model.read(snakemake.input.model)
    samples = members(snakemake.input.samples, [state.id for state in campaign.training])
    inputs = snakemake.input.targets, samples
    data = read_training_data(model, campaign.training, *inputs)
    observations = [read_observation(path) for path in snakemake.input.records]
    plan = read_json(snakemake.input.plans[-1])
    smoothness = plan.get("smoothness", campaign.rem.smoothness)
    model = finish(model, data, observations, plan["verdict"], input_hashes(campaign), smoothness)
    for warning in model.extra.get("warnings", []):
        print(f"warning: {warning}")
    covariance = model.extra["covariance"]
    model = methods.finish(campaign.rem.method, model)
    found = learned.learn(model, covariance, data, observations)
    learned.write_tables(snakemake.output, found, model)
    learned.draw_figures(snakemake.output, found, model)
    model.write(snakemake.output.model)

"""One step of relative entropy minimisation and its verdict."""

from remcg import ensembles, methods
from remcg.config import load
from remcg.io import members, read_json, write_json
from remcg.model import Model
from remcg.optimize import update
from remcg.stage import stage

with stage(snakemake.log[0]):
    campaign = load(snakemake.config["config_file"], check_files=False)
    model = Model.read(snakemake.input.model)
    plan = read_json(snakemake.input.plan)
    samples = members(snakemake.input.samples, [state.id for state in campaign.training])
    inputs = snakemake.input.targets, samples
    data = ensembles.read_training_data(model, campaign.training, *inputs)
    if campaign.rem.method == "rem":
        following, observation, diagnostics = update(
            model,
            data,
            plan["stage"],
            [ensembles.read_observation(path) for path in snakemake.input.records],
            campaign.rem.max_kl,
            campaign.rem.confidence,
            campaign.rem.smoothness,
            plan,
        )
    else:
        following, observation, diagnostics = methods.update(
            campaign.rem.method, model, data, methods.read_rdfs(*inputs), campaign.rem.scale
        )
    for state, target, sample in zip(campaign.training, *inputs):
        diagnostics["states"][state.id]["rdf_rmse"] = ensembles.rdf_rmse(target, sample)
    diagnostics["iteration"] = int(snakemake.wildcards.iteration)
    diagnostics["sampled"] = {key: plan[key] for key in ("stage", "phase", "effort") if key in plan}
    has_pressure = any(state.pressure is not None for state in campaign.training)
    is_local = diagnostics["stage"] == "local"
    diagnostics["phase"] = "NPT" if is_local and has_pressure else "NVT"
    ensembles.write_observation(snakemake.output.record, observation)
    following.write(snakemake.output.model)
    write_json(snakemake.output.plan, diagnostics, sealed=True)

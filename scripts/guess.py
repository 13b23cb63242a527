"""The model of iteration 0."""

from remcg import methods, terms
from remcg.config import load
from remcg.ensembles import read_state_target
from remcg.guess import guess
from remcg.io import write_json
from remcg.optimize import FAR_SHARE
from remcg.stage import stage

with stage(snakemake.log[0]):
    campaign = load(snakemake.config["config_file"], check_files=False)
    site_names, found = terms.read(snakemake.input.terms)
    states = [
        read_state_target(path, state)
        for path, state in zip(snakemake.input.targets, campaign.training)
    ]
    v0 = sum(state.volume / state.n_molecules for state in states) / len(states)
    model = guess(site_names, found, campaign.reference_temperature, v0, states, campaign.exclude)
    plan = {"verdict": "continue", "stage": "global", "phase": "NVT", "restart": "reference"}
    if campaign.rem.method == "rem":
        plan["effort"] = dict.fromkeys([state.id for state in campaign.training], FAR_SHARE)
    if campaign.rem.method == "force_matching":
        sums = methods.read_force_sums(snakemake.input.targets, campaign.training)
        model, plan["forces"] = methods.force_matched(model, states, sums, campaign.rem.ridge)
    model.write(snakemake.output.model)
    write_json(snakemake.output.plan, plan, sealed=True)

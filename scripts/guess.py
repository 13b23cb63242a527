"""The model of iteration 0."""

from remcg import methods, target
from remcg.config import load
from remcg.ensembles import read_state_target
from remcg.guess import guess
from remcg.io import read_json, write_json
from remcg.stage import stage

with stage(snakemake.log[0]):
    campaign = load(snakemake.config["config_file"], check_files=False)
    facts = [read_json(path) for path in snakemake.input.facts]
    terms = target.model_terms(campaign.model, [item["onset"] for item in facts])
    states = [
        read_state_target(path, state)
        for path, state in zip(snakemake.input.targets, campaign.training)
    ]
    v0 = sum(state.volume / state.n_molecules for state in states) / len(states)
    model = guess(facts[0]["site_names"], terms, campaign.reference_temperature, v0, states)
    plan = {"verdict": "continue", "stage": "global", "phase": "NVT", "restart": "reference"}
    if campaign.rem.method == "force_matching":
        sums = methods.read_force_sums(snakemake.input.targets, campaign.training)
        model, plan["forces"] = methods.force_matched(model, states, sums, campaign.rem.ridge)
    model.write(snakemake.output.model)
    write_json(snakemake.output.plan, plan)

import os
import re

from remcg.config import load
from remcg.io import read_json

CONFIG = os.path.relpath((workflow.overwrite_configfiles or workflow.configfiles)[-1])
CONFIG = os.path.join(".", CONFIG) if CONFIG.startswith("-") else CONFIG
config["config_file"] = CONFIG
CAMPAIGN = load(CONFIG, check_files=False)
STATES = {state.id: state for state in CAMPAIGN.states}
TRAINING = [state.id for state in CAMPAIGN.training]
OPEN_PAIRS = [term.name for term in CAMPAIGN.open_terms]
BONDED_STATES = list(STATES) if CAMPAIGN.bonded_terms else []
BONDED_FIGURES = ["distributions", "bonded_potentials"] if CAMPAIGN.bonded_terms else []
BONDED_EXPORTS = ["gromacs"] if CAMPAIGN.bonded_terms else []
BACKMAP_STARTS = [] if CAMPAIGN.backmap.method == "pseudoinverse" else ["openmm.xml"]
SETTINGS = CAMPAIGN.to_dict()


def relative(paths):
    """Paths from the working directory, so that no report names the machine's folders."""
    return [os.path.relpath(path) for path in paths]


def results(pattern, **values):
    """Path below the campaign's results."""
    return f"results/{CAMPAIGN.campaign}/{pattern.format(**values)}"


def numbered(iteration):
    return f"{int(iteration):03d}"


def settings(*sections):
    """Sections of the config that a job depends on; a change makes it run again."""
    chosen = {section: dict(SETTINGS[section]) for section in sections if section != "seed"}
    for key in ("ranks", "exchange_interval"):  # distributes the work; belongs to one rule
        chosen.get("sample", {}).pop(key, None)
    return {"seed": SETTINGS["seed"], **chosen}


def state_settings(wildcards):
    """What the config says of one state, without its use and weight."""
    return settings_of(wildcards.state)


def settings_of(name):
    state = next(item for item in SETTINGS["states"] if item["id"] == name)
    return {key: value for key, value in state.items() if key not in ("use", "weight")}


def config_file(wildcards):
    """A function, as braces in a name are not wildcards."""
    return CONFIG


def mapping_file(wildcards):
    """A function, as the report puts other names into its page as they are."""
    return os.path.relpath(CAMPAIGN.system.mapping)


def trajectories(wildcards):
    return relative(STATES[wildcards.state].trajectory)


def topology(wildcards):
    return os.path.relpath(CAMPAIGN.topology(wildcards.state))


def reference_log(wildcards):
    log = STATES[wildcards.state].log
    return relative([log] if log else [])


def reference_start(wildcards):
    """What an atomistic run starts from: molecules for a new box, or the topology."""
    own = STATES[wildcards.state].topology
    return relative(CAMPAIGN.reference.templates or [own or CAMPAIGN.system.topology])


def reference_fields(wildcards):
    """The user's own files of the force field; others come with the engine."""
    names = [*CAMPAIGN.system.force_field, *CAMPAIGN.reference.include]
    return relative([name for name in names if os.path.isfile(name)])


def previous_model(wildcards):
    return results("rem/iter-{k}/model.json", k=numbered(int(wildcards.iteration) - 1))


def previous_plan(wildcards):
    return results("rem/iter-{k}/update.json", k=numbered(int(wildcards.iteration) - 1))


def previous_samples(wildcards):
    k = numbered(int(wildcards.iteration) - 1)
    return [results("rem/iter-{k}/sample/{s}.h5", k=k, s=state) for state in TRAINING]


def previous_records(wildcards):
    steps = range(1, int(wildcards.iteration))
    return [results("rem/iter-{k}/record.h5", k=numbered(k)) for k in steps]


def previous_configurations(wildcards):
    """Where a sampler starts: the reference at first, then where the last iteration ended."""
    if int(wildcards.iteration) == 0:
        return results("map/{s}.h5", s=wildcards.state)
    k = numbered(int(wildcards.iteration) - 1)
    return results("rem/iter-{k}/sample/{s}.h5", k=k, s=wildcards.state)


def all_previous_configurations(wildcards):
    """The same for all training states, which replica exchange samples together."""
    if int(wildcards.iteration) == 0:
        return [results("map/{s}.h5", s=state) for state in TRAINING]
    return previous_samples(wildcards)


def last_iteration():
    """Walk the iterations up to a verdict or to the limit; Snakemake runs what is missing."""
    for k in range(1, CAMPAIGN.rem.max_iterations + 1):
        found = checkpoints.update.get(campaign=CAMPAIGN.campaign, iteration=numbered(k))
        if read_json(found.output.plan)["verdict"] == "converged":
            break
    return k


def last_model(wildcards):
    return results("rem/iter-{k}/model.json", k=numbered(last_iteration()))


def last_samples(wildcards):
    k = numbered(last_iteration() - 1)
    return [results("rem/iter-{k}/sample/{s}.h5", k=k, s=state) for state in TRAINING]


def all_plans(wildcards):
    steps = range(1, last_iteration() + 1)
    return [results("rem/iter-{k}/update.json", k=numbered(k)) for k in steps]


def all_iterations(wildcards):
    """Models and samples of the loop, so that one that was deleted is made again."""
    sampled = [numbered(k) for k in range(last_iteration())]
    models = [results("rem/iter-{k}/model.json", k=k) for k in sampled]
    return models + [
        results("rem/iter-{k}/sample/{s}.h5", k=k, s=state) for k in sampled for state in TRAINING
    ]


def all_records(wildcards):
    steps = range(1, last_iteration() + 1)
    return [results("rem/iter-{k}/record.h5", k=numbered(k)) for k in steps]


def nearest_training_state(wildcards):
    """The training state next in temperature, of the same molecules where there is one."""
    topology, temperature = CAMPAIGN.topology(wildcards.state), STATES[wildcards.state].temperature
    alike = [s for s in CAMPAIGN.training if CAMPAIGN.topology(s.id) == topology]
    return min(alike or CAMPAIGN.training, key=lambda s: abs(s.temperature - temperature)).id


def nearest_samples(wildcards):
    """Where a prediction starts: samples of the same molecules, or the state's own reference."""
    state = nearest_training_state(wildcards)
    if CAMPAIGN.topology(state) != CAMPAIGN.topology(wildcards.state):
        return results("map/{s}.h5", s=wildcards.state)
    k = numbered(last_iteration() - 1)
    return results("rem/iter-{k}/sample/{s}.h5", k=k, s=state)


def template_state(wildcards):
    """The state that conformers are taken from: one that was trained, where it has the molecules."""
    state = nearest_training_state(wildcards)
    same = CAMPAIGN.topology(state) == CAMPAIGN.topology(wildcards.state)
    return state if same else wildcards.state


def template_trajectory(wildcards):
    return relative(STATES[template_state(wildcards)].trajectory)


def of_all_states(pattern):
    return [results(pattern, state=state) for state in STATES]


def training_weights():
    return {state.id: [state.temperature, state.weight] for state in CAMPAIGN.training}


def update_settings():
    """All that a step depends on: not the iteration limit, and no test state."""
    rem = {key: value for key, value in SETTINGS["rem"].items() if key != "max_iterations"}
    states = [state for state in SETTINGS["states"] if state["use"] == "train"]
    return {"rem": rem, "states": states}


def backmap_settings(source):
    """What the backmapping of a prediction, or of the mapped reference, depends on."""
    chosen = settings("backmap", "system", "seed")
    del chosen["backmap"]["validate" if source == "predicted" else "frames"]
    return {**chosen, "cutoff": CAMPAIGN.backmap_cutoff}


def template_map(wildcards):
    """The mapped trajectory of the state that conformers are taken from."""
    return results("map/{s}.h5", s=template_state(wildcards))


def backmapped_states():
    """Numbers of the backmapped states; a campaign may do without."""
    return of_all_states("backmap/{state}.json") if CAMPAIGN.is_backmapped else []


def validated_states():
    """Numbers of the backmapped references, as far as there are any."""
    return of_all_states("backmap/mapped/{state}.json") if CAMPAIGN.is_backmap_validated else []


def backmap_figures():
    """Figures of the backmapping for the front page."""
    if not CAMPAIGN.is_backmapped or CAMPAIGN.backmap.method == "pseudoinverse":
        return []
    compared = CAMPAIGN.backmap.method == "posterior"
    names = [f"backmap_{state}" for state in STATES] if compared else []
    return [results("validate/{name}.png", name=name) for name in [*names, "backmap_picture"]]

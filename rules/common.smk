import os
import re
import shlex
import sys

from snakemake.exceptions import WorkflowError

from remcg.config import SHORT_RUNS, load
from remcg.io import read_json
from remcg.page import MOST_FILES  # of one kind that one job writes, each recorded with all inputs

if os.path.exists(sys.executable):  # Snakemake puts it into the commands of scripts as it is
    sys.executable = shlex.quote(sys.executable)
given = [config.get("config_file"), *workflow.overwrite_configfiles, *workflow.configfiles]
if not any(given):
    raise WorkflowError(
        "remcg has no campaign: give a module `config: {'config_file': 'config/mine.yaml'}`, or a"
        " configfile to the workflow that imports it"
    )
CONFIG = os.path.relpath(given[0] or (workflow.overwrite_configfiles or workflow.configfiles)[-1])
CONFIG = os.path.join(".", CONFIG) if CONFIG.startswith("-") else CONFIG
config["config_file"] = CONFIG
CAMPAIGN = load(CONFIG, check_files=False)
STATES = {state.id: state for state in CAMPAIGN.states}
TRAINING = [state.id for state in CAMPAIGN.training]
OPEN_PAIRS = [term.name for term in CAMPAIGN.open_terms]
TABLED = list(STATES) if len(STATES) <= MOST_FILES else []  # with files of their own
BONDED_TABLED = TABLED if CAMPAIGN.bonded_terms else []
TOGETHER = [] if TABLED else ["rdf_states", "bonded_states"][: 2 if CAMPAIGN.bonded_terms else 1]
BONDED_FIGURES = ["distributions", "bonded_potentials"] if CAMPAIGN.bonded_terms else []
BONDED_EXPORTS = ["gromacs"] if CAMPAIGN.bonded_terms else []
BACKMAP_STARTS = [] if CAMPAIGN.backmap.method == "pseudoinverse" else ["openmm.xml"]
MAPS = f"results/{CAMPAIGN.share.maps or CAMPAIGN.campaign}/map"
TARGETS = f"results/{CAMPAIGN.share.targets or CAMPAIGN.campaign}/target"
BASIS = f"results/{CAMPAIGN.share.targets or CAMPAIGN.campaign}/basis"
SETTINGS = CAMPAIGN.to_dict()
SHORT_RUN = {name: SETTINGS["reference"].pop(name) for name in SHORT_RUNS}
for state in SETTINGS["states"]:
    del state["dynamics"]  # of one stage alone
MATCHED = TRAINING if SETTINGS["rem"]["method"] == "force_matching" else []
FORCES_OF = "every state" if SETTINGS["system"]["forces"] else MATCHED
STATE_SETTINGS = {state["id"]: state for state in SETTINGS["states"]}
EXCHANGED = TRAINING if CAMPAIGN.sample.exchange_interval else TRAINING[:1]
BATCHES = {f"{i:04d}": states for i, states in enumerate(CAMPAIGN.batches)}
BATCH_OF = {state: batch for batch, states in BATCHES.items() for state in states}
VERDICTS = {}
ENTRIES = {  # MPI runs remcg itself, or one process that starts LAMMPS with MPI
    "numba": "$launcher python -m remcg.sample",
    "lammps": 'python -m remcg.sample --launcher "$launcher"',
}
SAMPLER, PREDICTOR = ENTRIES[CAMPAIGN.sample.engine], ENTRIES[CAMPAIGN.predict_engine]


def relative(paths):
    """Paths from the working directory, so that no report names the machine's folders."""
    return [os.path.relpath(path) for path in paths]


def results(pattern, **values):
    """Path below the campaign's results."""
    return f"results/{CAMPAIGN.campaign}/{pattern.format(**values)}"


def mapped(state):
    """The mapped trajectory of a state; variants of a campaign share them."""
    return f"{MAPS}/{state}.h5"


def numbered(iteration):
    return f"{int(iteration):03d}"


def settings(*sections):
    """Sections of the config that a job depends on; a change makes it run again."""
    chosen = {section: dict(SETTINGS[section]) for section in sections if section != "seed"}
    if "sample" in chosen and "lammps" in (CAMPAIGN.sample.engine, CAMPAIGN.predict_engine):
        chosen["sample"]["barostat_time"] = SETTINGS["sample"]["lammps"]["barostat_time"]
    # These distribute the work, or belong to one rule.
    for key in ("ranks", "exchange_interval", "states_per_job", "lammps"):
        chosen.get("sample", {}).pop(key, None)
    if not chosen.get("predict", {}).get("engine", "numba"):  # that of sample
        del chosen["predict"]["engine"]
    return {"seed": SETTINGS["seed"], **chosen}


NOT_SETTINGS = {"use", "weight", "trajectory", "log", "topology", "dynamics"}


def state_settings(wildcards):
    """What the config says of one state, without its use, its weight and its files.

    Files are inputs. Where a config names one that a rule makes, its path is another one before.
    """
    return settings_of(wildcards.state)


def settings_of(name):
    state = STATE_SETTINGS[name].items()
    return {key: value for key, value in state if key not in NOT_SETTINGS}


def state_point(wildcards):
    """What the reference of a state is made at."""
    state = STATE_SETTINGS[wildcards.state]
    return {"temperature": state["temperature"], "pressure": state["pressure"]}


def config_file(wildcards):
    """A function, as braces in a name are not wildcards."""
    return CONFIG


def mapping_file(wildcards):
    """A function, as the report puts other names into its page as they are."""
    return os.path.relpath(CAMPAIGN.system.mapping)


def trajectories(wildcards):
    return relative(STATES[wildcards.state].trajectory)


def topology_of(state):
    return CAMPAIGN.topology_of(STATES[state])


def topology(wildcards):
    return os.path.relpath(topology_of(wildcards.state))


def reference_log(wildcards):
    log = STATES[wildcards.state].log
    return relative([log] if log else [])


def dynamics_of(state):
    """Files of a state's short runs, its own or the one that this workflow makes; maybe none."""
    own = relative(STATES[state].dynamics)
    return own or [results("reference/{s}_dynamics.trr", s=state)] * (
        CAMPAIGN.reference.dynamics > 0
    )


def short_run(wildcards):
    return dynamics_of(wildcards.state)


def mapped_short_run(wildcards):
    """The mapped short run of a state, where there is one."""
    name = wildcards.state
    return [results("map/dynamics/{s}.h5", s=name)] if dynamics_of(name) else []


def mapped_reference(wildcards):
    return mapped(wildcards.state)


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


def samples_of(iteration, state):
    """The file with the samples of a state, alone or with those of its batch."""
    k = numbered(iteration)
    if CAMPAIGN.is_batched:
        return results("rem/iter-{k}/batch/{b}.h5", k=k, b=BATCH_OF[state])
    return results("rem/iter-{k}/sample/{s}.h5", k=k, s=state)


def samples(iteration, states=TRAINING):
    """The files with the samples of all training states, each once."""
    return list(dict.fromkeys(samples_of(iteration, state) for state in states))


def previous_samples(wildcards):
    return samples(int(wildcards.iteration) - 1)


def previous_records(wildcards):
    steps = range(1, int(wildcards.iteration))
    return [results("rem/iter-{k}/record.h5", k=numbered(k)) for k in steps]


def previous_configurations(wildcards):
    """Where a sampler starts: the reference at first, then where the last iteration ended."""
    return starts(wildcards, [wildcards.state])


def all_previous_configurations(wildcards):
    """The same for all training states, which replica exchange samples together."""
    return starts(wildcards, TRAINING)


def previous_batch(wildcards):
    """The same for the states of a batch."""
    return starts(wildcards, BATCHES[wildcards.batch])


def starts(wildcards, states):
    if int(wildcards.iteration) == 0:
        return [mapped(state) for state in states]
    return samples(int(wildcards.iteration) - 1, states)


def batch_references(wildcards):
    return [mapped(state) for state in BATCHES[wildcards.batch]]


def batch_states(wildcards):
    return BATCHES[wildcards.batch]


def batch_settings(wildcards):
    return [settings_of(state) for state in BATCHES[wildcards.batch]]


def verdict_on_disk(k):
    """(time, verdict) of an iteration as ``update`` wrote it, or None."""
    path = results("rem/iter-{k}/update.json", k=numbered(k))
    try:
        time = os.stat(path).st_mtime_ns
        if VERDICTS.get(path, (None,))[0] != time:
            VERDICTS[path] = time, read_json(path)["verdict"]
        return VERDICTS[path]
    except FileNotFoundError:
        return None


def last_iteration():
    """Walk the iterations up to a verdict or to the limit; Snakemake runs what is missing.

    All iterations depend on the same settings: where the first one is up to date, those that
    follow it in time need no question of their own, which for a thousand states takes minutes.
    """
    earlier = None
    for k in range(1, CAMPAIGN.rem.max_iterations + 1):
        found = verdict_on_disk(k)
        if not (earlier and found and earlier[0] <= found[0]):
            checkpoints.update.get(campaign=CAMPAIGN.campaign, iteration=numbered(k))
            found = verdict_on_disk(k)
        if found[1] == "converged":
            break
        earlier = found
    return k


def last_model(wildcards):
    return results("rem/iter-{k}/model.json", k=numbered(last_iteration()))


def last_samples(wildcards):
    return samples(last_iteration() - 1)


def all_plans(wildcards):
    steps = range(1, last_iteration() + 1)
    return [results("rem/iter-{k}/update.json", k=numbered(k)) for k in steps]


def all_iterations(wildcards):
    """Models and samples of the loop, so that one that was deleted is made again."""
    sampled = range(last_iteration())
    models = [results("rem/iter-{k}/model.json", k=numbered(k)) for k in sampled]
    return models + [path for k in sampled for path in samples(k)]


def of_campaign(*outputs):
    """What rules write once for the campaign, so that a file that was deleted is made again."""
    return [str(file).format(campaign=CAMPAIGN.campaign) for each in outputs for file in each]


def all_records(wildcards):
    steps = range(1, last_iteration() + 1)
    return [results("rem/iter-{k}/record.h5", k=numbered(k)) for k in steps]


def nearest_training_state(wildcards):
    return CAMPAIGN.nearest_training(STATES[wildcards.state]).id


def nearest_samples(wildcards):
    """Where a prediction starts: samples of the same molecules, or the state's own reference."""
    state = nearest_training_state(wildcards)
    if topology_of(state) != topology_of(wildcards.state):
        return mapped(wildcards.state)
    return samples_of(last_iteration() - 1, state)


def template_state(wildcards):
    """The state that conformers are taken from: one that was trained, where it has the molecules."""
    state = nearest_training_state(wildcards)
    same = topology_of(state) == topology_of(wildcards.state)
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
    return mapped(template_state(wildcards))


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
    names = [f"backmap_{state}" for state in TABLED] if compared else []
    return [results("validate/{name}.png", name=name) for name in [*names, "backmap_picture"]]


def shown_configuration():
    """What the front page shows to be turned: backmapped atoms, or sites."""
    folder = "backmap" if CAMPAIGN.is_backmapped else "predict"
    return results("{folder}/{state}.h5", folder=folder, state=TRAINING[0])

"""Backmapped structures against references, as a table and figures."""

from remcg import plot_backmap, report
from remcg.backmap import validation
from remcg.config import load
from remcg.io import read_h5
from remcg.mapping import sites_of
from remcg.stage import stage

with stage(snakemake.log[0]):
    campaign = load(snakemake.config["config_file"], check_files=False)
    paths = {"mapped": snakemake.input.mapped_comparisons, "predicted": snakemake.input.comparisons}
    for k, (state, figure) in enumerate(zip(campaign.states, snakemake.output.state_figures)):
        found = {source: validation.read_comparison(of[k]) for source, of in paths.items() if of}
        title = f"{state.id}, {state.use}"
        plot_backmap.state_figure(figure, title, found)
        plot_backmap.write_state_table(snakemake.output.state_tables[k], found)
    numbers = report.read_backmap(snakemake.input.numbers, snakemake.input.mapped_numbers)
    validation.write_table(snakemake.output.table, numbers)
    first = campaign.states[0].id
    topology, mapped = sites_of(campaign.topology(first), campaign.system.mapping)
    arrays, _ = read_h5(snakemake.input.atoms[0])
    plot_backmap.picture(snakemake.output.picture, topology, mapped, arrays)

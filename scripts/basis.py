"""The terms of the model, with the numbers of functions that the config leaves open."""

from remcg import plot_learning, terms
from remcg.config import load
from remcg.io import read_json
from remcg.stage import stage

with stage(snakemake.log[0]):
    campaign = load(snakemake.config["config_file"], check_files=False)
    facts = [read_json(path) for path in snakemake.input.facts]
    found, sizes = terms.resolve(campaign, snakemake.input.sites, facts)
    for size, table, figure in zip(
        sizes.values(), snakemake.output.tables, snakemake.output.figures
    ):
        plot_learning.write_basis_table(table, size)
        plot_learning.basis_figure(figure, size)
    terms.write(snakemake.output.terms, facts[0]["site_names"], found)

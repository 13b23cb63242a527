"""Tell which checks fail; strict campaigns fail here, when everything is on disk."""

from remcg.config import load
from remcg.errors import InputError
from remcg.stage import stage
from remcg.terminal import failing_lines

with stage(snakemake.log[0]):
    campaign = load(snakemake.config["config_file"], check_files=False)
    failures = failing_lines(snakemake.input.checks)
    print("\n".join(failures))
    if failures and campaign.validate.strict:
        raise InputError(
            f"{len(failures)} checks of the campaign fail and validate.strict is set; the results "
            "are complete, see summary.json, verdict.tsv and the lines above."
        )

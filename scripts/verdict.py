"""Turn the summary into verdicts; strict campaigns fail here, when everything is on disk."""

from remcg import report
from remcg.config import load
from remcg.errors import InputError
from remcg.io import read_json
from remcg.stage import stage

with stage(snakemake.log[0]):
    campaign = load(snakemake.config["config_file"], check_files=False)
    summary = read_json(snakemake.input[0])
    failures = report.verdict(summary, campaign.validate.limits)
    report.write_verdict(snakemake.output[0], report.checks(summary, campaign.validate.limits))
    for failure in failures:
        print(failure)
    if failures and campaign.validate.strict:
        raise InputError(
            f"{len(failures)} checks of the campaign fail and validate.strict is set; the results "
            "are complete, see summary.json and the lines above."
        )

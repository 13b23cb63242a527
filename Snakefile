from snakemake.utils import min_version

min_version("9.0")


configfile: "config/spce-water.yaml"


report: "workflow/report/workflow.rst"


include: "rules/common.smk"


wildcard_constraints:
    campaign=re.escape(CAMPAIGN.campaign),
    state="|".join(map(re.escape, STATES)),
    iteration=r"\d{3}",
    batch=r"\d{4}",


include: "rules/reference.smk"
include: "rules/map.smk"
include: "rules/basis.smk"
include: "rules/target.smk"
include: "rules/guess.smk"
include: "rules/sample.smk"
include: "rules/update.smk"
include: "rules/model.smk"
include: "rules/predict.smk"
include: "rules/backmap.smk"
include: "rules/validate.smk"
include: "rules/consistency.smk"
include: "rules/export.smk"
include: "rules/report.smk"
include: "rules/verdict.smk"


rule all:
    default_target: True
    input:
        all_iterations,
        of_campaign(
            rules.model.output,
            rules.validate.output,
            rules.consistency_states.output,
            rules.export.output,
            rules.report.output,
            rules.verdict.output,
        ),
    localrule: True

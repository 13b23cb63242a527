#!/usr/bin/env bash
# A whole campaign inside one allocation of one node; docs/cluster.md says when.
#   sbatch --account=my_account --partition=my_partition profiles/slurm/campaign.sh config/x.yaml
# Two minutes before the wall limit the campaign saves itself and the job goes back into the queue, where it
# goes on from, as often as it takes.
#SBATCH --job-name=remcg
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=16
#SBATCH --mem-per-cpu=2000
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=remcg-%j.log
set -u
config=${1:?say which config: sbatch profiles/slurm/campaign.sh config/x.yaml}
shift

# module load ...                      # what your site asks for
# source .venv/bin/activate            # or: conda activate remcg
export HYDRA_LAUNCHER=fork             # mpiexec starts its ranks on this node by itself
python=.venv/bin/python
[ -x "$python" ] || python=python

"$python" -m remcg.launch --configfile "$config" --cores "${SLURM_CPUS_PER_TASK:-1}" -- "$@" &
campaign=$!
is_requested=no
trap 'trap "" TERM; is_requested=yes; kill -TERM "$campaign"' TERM
code=0
wait "$campaign" || code=$?
if [ "$is_requested" = yes ]; then
    wait "$campaign" && code=0 || code=$?
    if [ "$code" != 0 ]; then
        scontrol requeue "$SLURM_JOB_ID"
        sleep 30                       # until SLURM ends this attempt
    fi
fi
exit "$code"

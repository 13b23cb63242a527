#!/usr/bin/env bash
# A SLURM of one node on this machine, for tests: no systemd, no accounting, nothing outside one folder.
#   single_node.sh start FOLDER [CPUS]   munged, slurmctld and slurmd at the loopback address
#   single_node.sh slurmd FOLDER         slurmd alone, after it was killed
#   single_node.sh stop FOLDER           end them and what their jobs left behind
# A link at /etc/slurm/slurm.conf is what sbatch, squeue and srun find it by; a SLURM that the machine has
# already is left alone, and start refuses.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"
umask 022

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

write_conf() {
    local user memory
    user=$(id -un)
    memory=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
    cat >"$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
CryptoType=crypto/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=pmi2
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MinJobAge=300
KillWait=10
SlurmdTimeout=15
InactiveLimit=0
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory State=UNKNOWN
PartitionName=work Nodes=$(hostname -s) Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=$(hostname -s) MaxTime=INFINITE State=UP PriorityTier=2
CONF
}

# Whether the link is one that killed tests have left, and their SLURM has ended.
is_left_over() {
    local conf pid
    conf=$(readlink "$system_conf") || return 1
    [[ "$conf" == */slurm-*/slurm.conf ]] || return 1
    pid=$(cat "${conf%/*}/slurmctld.pid" 2>/dev/null) || return 0
    ! kill -0 "$pid" 2>/dev/null
}

start() {
    ! is_left_over || rm "$system_conf"
    if [ -e "$system_conf" ]; then
        echo "$system_conf exists: this machine has a SLURM of its own, or one that tests still use" >&2
        return 1
    fi
    mkdir -p "$folder/state" "$folder/spool" "$folder/run"
    write_conf
    mkdir -p "$(dirname "$system_conf")"
    ln -sfn "$folder/slurm.conf" "$system_conf"
    head -c 128 /dev/urandom >"$folder/munge.key"
    chmod 400 "$folder/munge.key"
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
        --pid-file="$folder/run/munged.pid" --log-file="$folder/run/munged.log" \
        --seed-file="$folder/run/munged.seed"
    slurmctld
    slurmd
    for _ in $(seq 100); do
        [ "$(sinfo --noheader --partition=work --format=%t 2>/dev/null)" = idle ] && return
        sleep 0.2
    done
    echo "the node did not become idle within 20 s; see $folder/slurmctld.log and slurmd.log" >&2
    tail -n 5 "$folder/slurmctld.log" "$folder/slurmd.log" >&2
    return 1
}

end() {
    local pid
    [ -s "$1" ] || return 0
    pid=$(cat "$1")
    kill "$pid" 2>/dev/null || return 0
    for _ in $(seq 50); do
        readlink "/proc/$pid/exe" >/dev/null 2>&1 || return 0  # gone, or nobody has waited for it
        sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || true
}

stop() {
    scancel --user="$(id -un)" 2>/dev/null || true
    for _ in $(seq 60); do
        [ -z "$(squeue --noheader 2>/dev/null)" ] && break
        sleep 0.2
    done
    end "$folder/slurmd.pid"
    end "$folder/slurmctld.pid"
    end "$folder/run/munged.pid"
    [ "$(readlink "$system_conf")" != "$folder/slurm.conf" ] || rm "$system_conf"
}

command=$1
folder=$(mkdir -p "$2" && cd "$2" && pwd)
cpus=${3:-$(getconf _NPROCESSORS_ONLN)}
system_conf=/etc/slurm/slurm.conf
export SLURM_CONF="$folder/slurm.conf"
case $command in
start) start ;;
slurmd) slurmd ;;
stop) stop ;;
*) echo "say start, slurmd or stop, not '$command'" >&2 && exit 2 ;;
esac

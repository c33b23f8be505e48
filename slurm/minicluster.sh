#!/usr/bin/env bash
# minicluster.sh - a real Slurm cluster of N virtual nodes on this one machine, without systemd (`saman minicluster`).
#
#   minicluster.sh up [N]          start it (default 4 nodes); does nothing to what already runs
#   minicluster.sh status          daemons, nodes, memory; exit status 0 only when all is healthy
#   minicluster.sh down            cancel every job, stop every daemon that `up` started
#   minicluster.sh env             print the lines a client shell must eval (SLURM_CONF, OMPI_*)
#   minicluster.sh crash NODE      a node dies at once (slurmd, its steps, its job processes)
#   minicluster.sh start NODE      ... and comes back
#   minicluster.sh stop-slurmd NODE | start-slurmd NODE   only the slurmd; running steps live on
#
# Debian 12: apt-get install -y --no-install-recommends slurm-wlm munge slurmdbd mariadb-server-core \
#   libpmix-dev   (for srun --mpi=pmix)
# Settings (environment): the SAMAN_MINICLUSTER_* below. Runs as root or as an ordinary user; an ordinary user
# can run jobs only as himself. No process is ended that is not in $SAMAN_MINICLUSTER_ROOT/run with its start time.
set -euo pipefail

SELF=$(readlink -f "${BASH_SOURCE[0]}")
umask 022                                               # nothing here is writable by a group, whatever the user's umask
# Every file of the cluster; keep the path short (sockets). Its last part is not followed: anybody may plant a link in /tmp.
ROOT=${SAMAN_MINICLUSTER_ROOT:-/tmp/saman-minicluster-$(id -u)}
ROOT=$(readlink -m "$(dirname "$ROOT")")/$(basename "$ROOT")
check_root() {  # its settings are sourced and its scripts run: nobody else may have written them
  local why=
  [[ -e $ROOT || -L $ROOT ]] || return 0
  if [[ -L $ROOT || ! -d $ROOT ]]; then why="is no folder"
  elif [[ ! -O $ROOT ]]; then why="belongs to $(stat -c %U "$ROOT")"
  elif [[ $(stat -c %A "$ROOT") =~ ^.{5}w|^.{8}w ]]; then why="is writable by other users"; fi
  [[ -z $why ]] || { echo "minicluster: $ROOT $why; remove it, or set SAMAN_MINICLUSTER_ROOT to a folder of your own" >&2; exit 1; }
}
check_root
PATH=$PATH:/usr/sbin:/sbin                              # an ordinary user's PATH on Debian lacks the daemons
[[ ${1:-} == up || ! -s $ROOT/etc/settings ]] || source "$ROOT/etc/settings"     # later commands see what `up` was given
CPUS=${SAMAN_MINICLUSTER_CPUS:-4}                       # CPUs declared per node, whatever the machine has
MEM=${SAMAN_MINICLUSTER_MEM:-4096}                      # MiB declared per node
GPUS=${SAMAN_MINICLUSTER_GPUS:-4}                       # fake GPUs per node (0: no GRES)
DBD=${SAMAN_MINICLUSTER_DBD:-1}                         # 1: mariadb + slurmdbd (sacct, QOS, limits); 0: jobcomp only
NS=${SAMAN_MINICLUSTER_NS:-auto}                        # full: UTS+mount+PID namespace per node; none; auto
PORT=${SAMAN_MINICLUSTER_PORT:-}                        # slurmctld PORT, slurmdbd PORT+1, slurmd PORT+10+i; empty: the first free of 17000, 17100, …
PREFIX=${SAMAN_MINICLUSTER_PREFIX:-node}
KILL_WAIT=${SAMAN_MINICLUSTER_KILL_WAIT:-10}            # seconds between SIGTERM and SIGKILL when a job is ended
REQUEUE_WAIT=${SAMAN_MINICLUSTER_REQUEUE_WAIT:-10}      # a requeued job waits this long before it starts again (Slurm's default: 120)

ETC=$ROOT/etc RUN=$ROOT/run LOG=$ROOT/log
export SLURM_CONF=$ETC/slurm.conf
ME=$(id -un)
# A slurmd without root runs every job as its own user. Without the munge socket, other users have no credential to submit
# one; munged itself wants a socket for everyone (--force).
MODE=755 FORCE=
((EUID == 0)) || MODE=700 FORCE=--force
die() { echo "minicluster: $*" >&2; exit 1; }
now() { date +%s.%N; }

# ---- processes: every one is known by pid and start time, so a reused pid is never signalled --------
birth() { local s; s=$(cat "/proc/$1/stat" 2>/dev/null) || return 1; s=${s##*) }; set -- $s; echo "${20}"; }
alive() {       # alive NAME -> prints the pid
  [[ -s $RUN/$1.pid ]] || return 1
  local pid born; read -r pid born <"$RUN/$1.pid"
  [[ $(birth "$pid") == "$born" ]] || return 1
  echo "$pid"
}
record() { echo "$2 $(birth "$2")" >"$RUN/$1.pid"; }
spawn() {       # spawn NAME command...  (in its own session, no terminal, output in log/NAME.out)
  local name=$1; shift
  alive "$name" >/dev/null && return 0
  setsid "$@" </dev/null >>"$LOG/$name.out" 2>&1 {LOCKFD}>&- &
  local pid=$!; disown "$pid"
  sleep 0.05; kill -0 "$pid" 2>/dev/null || die "$name did not start: $(tail -n 3 "$LOG/$name.out")"
  record "$name" "$pid"
}
stop() {        # stop NAME [SIGNAL] [seconds]: signal it, wait, then KILL
  local name=$1 sig=${2:-TERM} wait=${3:-10} pid i
  pid=$(alive "$name") || { rm -f "$RUN/$name.pid"; return 0; }
  kill -"$sig" "$pid" 2>/dev/null || true
  for ((i = 0; i < wait * 20; i++)); do alive "$name" >/dev/null || break; sleep 0.05; done
  alive "$name" >/dev/null && { kill -KILL "$pid" 2>/dev/null || true; sleep 0.1; }
  rm -f "$RUN/$name.pid"
}
until_ok() {    # until_ok SECONDS command...
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do ((SECONDS < end)) || return 1; sleep 0.1; done
}

hold_lock() {   # who can open the file can lock it: nobody else
  (umask 077; : >>"$ROOT/lock"); chmod 600 "$ROOT/lock"; exec {LOCKFD}>"$ROOT/lock"
  flock -n $LOCKFD || { echo "minicluster: waiting for another up or down, at most 120 s" >&2; flock -w 120 $LOCKFD; } ||
    die "another up or down has been in progress for 120 s"
}

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
choose_port() { # choose_port NODES: all ports that the cluster needs are free
  local base i taken
  for base in ${PORT:-$(seq 17000 100 18900)}; do
    taken=; for i in 0 1 $(seq 11 $((10 + $1))); do ! listening $((base + i)) || taken=$((base + i)); done
    [[ -n $taken ]] || { PORT=$base; return 0; }
  done
  die "port $taken is taken; set SAMAN_MINICLUSTER_PORT"
}

# ---- configuration -----------------------------------------------------------------------------------
have_ns() { "${UNSHARE[@]}" true 2>/dev/null; }
choose_ns() {
  if ((EUID == 0)); then UNSHARE=(unshare --uts --mount --pid --fork --kill-child --mount-proc)
  else UNSHARE=(unshare --user --map-current-user --keep-caps --uts --mount --pid --fork --kill-child --mount-proc); fi
  case $NS in
    none) UNSHARE=() ;;
    full) have_ns || die "namespaces are not allowed here (SAMAN_MINICLUSTER_NS=full)" ;;
    auto) have_ns && NS=full || { NS=none; UNSHARE=(); } ;;
    *) die "SAMAN_MINICLUSTER_NS=$NS" ;;
  esac
}
nodes() { cat "$ETC/nodes" 2>/dev/null; }

write_conf() {
  local n=$1 i host=$(hostname -s) gres="" gpunode="" acct
  mkdir -p "$ETC" "$RUN" "$LOG" "$ROOT/state" "$ROOT/spool"
  chmod $MODE "$ROOT"; chmod 755 "$ETC" "$RUN" "$LOG"
  [[ -s $ETC/munge.key ]] || (umask 077; head -c 1024 /dev/urandom >"$ETC/munge.key")
  : >"$ETC/nodes"
  { grep -vE "[[:space:]]${PREFIX}[0-9]+$" /etc/hosts; for ((i = 1; i <= n; i++)); do echo "127.0.0.1 $PREFIX$i"; done; } >"$ETC/hosts"
  for ((i = 1; i <= n; i++)); do echo "$PREFIX$i" >>"$ETC/nodes"; mkdir -p "$ROOT/spool/$PREFIX$i" "$ROOT/tmp/$PREFIX$i"; chmod 1777 "$ROOT/tmp/$PREFIX$i"; done

  if ((GPUS > 0)); then
    mkdir -p "$ROOT/dev"; for ((i = 0; i < GPUS; i++)); do ln -sfn /dev/null "$ROOT/dev/nvidia$i"; done   # must be character devices
    echo "NodeName=$PREFIX[1-$n] Name=gpu Type=fake File=$ROOT/dev/nvidia[0-$((GPUS - 1))]" >"$ETC/gres.conf"
    gres="GresTypes=gpu" gpunode="Gres=gpu:fake:$GPUS"
  else : >"$ETC/gres.conf"; fi

  if ((DBD)); then
    acct="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((PORT + 1))
AccountingStoragePass=$RUN/munge.sock
AccountingStorageEnforce=associations,limits,qos
AccountingStoreFlags=job_comment,job_env,job_script
${gres:+AccountingStorageTRES=gres/gpu}"
    (umask 077; cat >"$ETC/slurmdbd.conf" <<C
AuthType=auth/munge
AuthInfo=socket=$RUN/munge.sock
DbdHost=$host
DbdAddr=127.0.0.1
DbdPort=$((PORT + 1))
SlurmUser=$ME
LogFile=$LOG/slurmdbd.log
PidFile=$RUN/slurmdbd.own.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=$ME
StorageLoc=slurm_acct
CommitDelay=1
C
    )
  else acct="AccountingStorageType=accounting_storage/none"; fi

  cat >"$SLURM_CONF" <<C
ClusterName=minicluster
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$PORT
SlurmUser=$ME
SlurmdUser=$ME
AuthType=auth/munge
# cred_expire: a requeued job waits this long before it starts again
AuthInfo=socket=$RUN/munge.sock,cred_expire=$REQUEUE_WAIT
CredType=cred/munge
StateSaveLocation=$ROOT/state
SlurmdSpoolDir=$ROOT/spool/%n
# per node, or mpi/pmix fails: Cannot create directory "/tmp/spmix_appdir_UID_JOB.STEP": File exists
TmpFS=$ROOT/tmp/%n
SlurmctldPidFile=$RUN/slurmctld.own.pid
SlurmdPidFile=$RUN/slurmd-%n.own.pid
SlurmctldLogFile=$LOG/slurmctld.log
SlurmdLogFile=$LOG/slurmd-%n.log
SlurmctldDebug=info
SlurmdDebug=info
MailProg=/bin/true
# no cgroups, no binding: the machine need not have what the nodes declare
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=256
$gres
# quick decisions, quick failures
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,sched_min_interval=0,batch_sched_delay=0,bf_interval=2
PriorityType=priority/multifactor
SlurmctldTimeout=30
SlurmdTimeout=10
MessageTimeout=10
TCPTimeout=2
KillWait=$KILL_WAIT
BatchStartTimeout=20
CompleteWait=0
InactiveLimit=0
MinJobAge=600
ReturnToService=2
JobRequeue=1
EnforcePartLimits=ALL
PropagateResourceLimits=NONE
# accounting
JobCompType=jobcomp/filetxt
JobCompLoc=$LOG/jobcomp.txt
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
# no cgroups: memory is policed by polling every 2 s
JobAcctGatherParams=OverMemoryKill
$acct
# nodes
NodeName=DEFAULT CPUs=$CPUS Boards=1 SocketsPerBoard=1 CoresPerSocket=$CPUS ThreadsPerCore=1 RealMemory=$MEM $gpunode State=UNKNOWN
$(for ((i = 1; i <= n; i++)); do echo "NodeName=$PREFIX$i NodeHostname=$PREFIX$i NodeAddr=127.0.0.1 Port=$((PORT + 10 + i))"; done)
# urgent takes nodes from scavenge, whose jobs are requeued; main and short are left alone
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes=ALL Default=YES MaxTime=1:00:00 DefaultTime=0:10:00 PriorityTier=5 PreemptMode=OFF State=UP
PartitionName=short Nodes=ALL MaxTime=2 DefaultTime=1 PriorityTier=10 PreemptMode=OFF State=UP
PartitionName=scavenge Nodes=ALL MaxTime=1:00:00 DefaultTime=0:10:00 PriorityTier=1 PreemptMode=REQUEUE State=UP
PartitionName=urgent Nodes=ALL MaxTime=0:10:00 DefaultTime=0:01:00 PriorityTier=20 PreemptMode=OFF State=UP
C
  sed -i '/^$/d' "$SLURM_CONF"

  cat >"$ETC/node-init.sh" <<'C'
#!/usr/bin/env bash
# first process of a virtual node: own hostname, hosts file and /dev/shm; keeps the node alive while slurmd comes and goes
node=$1 root=$2 ns=$3
if [ "$ns" = full ]; then
  hostname "$node"
  mount --bind "$root/etc/hosts" /etc/hosts
  mount -t tmpfs -o size=2g,mode=1777 tmpfs /dev/shm
  # pids differ between nodes (they share /tmp, where programs name files by pid: prted.PID of Open MPI 5)
  echo $((${node//[!0-9]/} * 50000 % ($(cat /proc/sys/kernel/pid_max) - 20000))) >/proc/sys/kernel/ns_last_pid
fi
start() { slurmd -D -N "$node" -f "$root/etc/slurm.conf" & P=$!; }
trap 'kill -0 "$P" 2>/dev/null || start' USR1
trap 'kill -KILL "$P" 2>/dev/null' USR2
trap 'kill -TERM "$P" $Z 2>/dev/null; wait "$P"; exit 0' TERM
start
while :; do sleep 86400 & Z=$!; wait; done
C
  chmod +x "$ETC/node-init.sh"
  echo "$NS" >"$ETC/ns"
  local name
  for name in CPUS MEM GPUS DBD PORT PREFIX KILL_WAIT REQUEUE_WAIT; do printf 'SAMAN_MINICLUSTER_%s=%q\n' "$name" "${!name}"; done >"$ETC/settings"
}

# ---- daemons -----------------------------------------------------------------------------------------
start_node() {
  local node=$1 pid i
  alive "$node" >/dev/null && return 0
  # what a crash left: the requeued job's step has the same name, and mpi/pmix fails on files that exist
  rm -rf "$ROOT/spool/$node"/pmix.* "$ROOT/spool/$node"/stepd.slurm.pmix.* "$ROOT/tmp/$node"/spmix_appdir_*
  spawn "$node" ${UNSHARE[@]+"${UNSHARE[@]}"} "$ETC/node-init.sh" "$node" "$ROOT" "$NS"
  pid=$(alive "$node")
  if [[ $NS == full ]]; then        # the first process inside, seen from here: it takes the signals
    for ((i = 0; i < 40; i++)); do
      pid=$(cat "/proc/$pid/task/$pid/children" 2>/dev/null) && [[ -n ${pid// /} ]] && break
      pid=$(alive "$node"); sleep 0.05
    done
    pid=${pid%% *}
  fi
  record "$node.init" "$pid"
}
tree() { local c; for c in $(cat /proc/"$1"/task/*/children 2>/dev/null); do tree "$c"; done; echo "$1"; }
# without a PID namespace: a node's slurmd and slurmstepds are those that have its log file open; with their descendants
members() {
  local p
  { for p in $(alive "$1.init"); do tree "$p"; done
    for p in $(find /proc/[0-9]*/fd -lname "$LOG/slurmd-$1.log" 2>/dev/null | cut -d/ -f3 | sort -u); do tree "$p"; done
  } 2>/dev/null | sort -un
}
sweep() { local i p; for ((i = 0; i < 5; i++)); do p=$(members "$1"); [[ -n $p ]] || return 0; kill -KILL $p 2>/dev/null || true; sleep 0.1; done; }
known_node() { [[ -n $(nodes) ]] || die "no cluster is up in $ROOT"; nodes | grep -qxF -- "$1" || die "no node $1; the nodes are $(nodes | paste -sd' ')"; }
crash_node() {
  local node=$1 pid; pid=$(alive "$node") || return 0
  if [[ $NS == full ]]; then kill -KILL "$pid"; else sweep "$node"; fi
  until_ok 5 bash -c "! kill -0 $pid" || true
  rm -f "$RUN/$node.pid" "$RUN/$node.init.pid"
}
node_signal() { local p; p=$(alive "$1.init") || die "$1 is not running"; kill -"$2" "$p"; }

up() {
  local n=${1:-4} t0=$(now) t c
  ((n >= 1 && n <= 64)) || die "up N: 1 to 64"
  for c in munged slurmctld slurmd sbatch setsid; do command -v $c >/dev/null || die "$c is not installed"; done
  ((!DBD)) || for c in mariadbd slurmdbd; do command -v $c >/dev/null || die "$c is not installed (or set SAMAN_MINICLUSTER_DBD=0)"; done
  choose_ns
  mkdir -p "$(dirname "$ROOT")"; mkdir -m $MODE "$ROOT" 2>/dev/null || check_root; hold_lock
  if alive slurmctld >/dev/null 2>&1; then
    [[ $(nodes | wc -l) == "$n" ]] || die "already up with $(nodes | wc -l) nodes; run down first"
    NS=$(cat "$ETC/ns"); [[ $NS == full ]] || UNSHARE=()
  else choose_port "$n"; write_conf "$n"; fi

  spawn munged munged --foreground $FORCE --key-file="$ETC/munge.key" --socket="$RUN/munge.sock" --pid-file="$RUN/munged.own.pid" \
    --log-file="$LOG/munged.log" --seed-file="$ROOT/state/munged.seed" --num-threads=4
  until_ok 10 munge -S "$RUN/munge.sock" -n || die "munged: $(tail -n 2 "$LOG/munged.log" "$LOG/munged.out")"

  if ((DBD)); then
    mkdir -p -m 700 "$ROOT/db" "$ROOT/dbsock"
    local my=(mariadbd --no-defaults --user="$ME" --datadir="$ROOT/db" --skip-grant-tables --skip-log-bin --performance-schema=OFF
      --innodb-buffer-pool-size=32M --innodb-log-file-size=16M --innodb-flush-log-at-trx-commit=0 --innodb-lock-wait-timeout=900)
    if [[ ! -s $ROOT/db/mysql/proc.frm ]]; then     # system tables: slurmdbd keeps stored procedures in mysql.proc
      { printf '%s\n' 'CREATE DATABASE IF NOT EXISTS mysql;' 'USE mysql;'; cat /usr/share/mysql/mysql_system_tables.sql; } |
        "${my[@]}" --bootstrap --log-error="$LOG/mariadb-bootstrap.log" >>"$LOG/mariadb.out" 2>&1 || die "mariadb: $(tail -n 3 "$LOG/mariadb-bootstrap.log")"
    fi
    spawn mariadb "${my[@]}" --skip-networking --socket="$ROOT/dbsock/s" --pid-file="$RUN/mariadb.own.pid" --log-error="$LOG/mariadb.log"
    until_ok 30 test -S "$ROOT/dbsock/s" || die "mariadb: $(tail -n 3 "$LOG/mariadb.log")"
    spawn slurmdbd env MYSQL_UNIX_PORT="$ROOT/dbsock/s" SLURM_CONF="$SLURM_CONF" slurmdbd -D
    until_ok 30 sacctmgr -n list cluster || die "slurmdbd: $(tail -n 3 "$LOG/slurmdbd.log" "$LOG/slurmdbd.out")"
    { sacctmgr -i add cluster minicluster; sacctmgr -i add account test cluster=minicluster; sacctmgr -i add user "$ME" account=test defaultaccount=test cluster=minicluster; sacctmgr show assoc; } >>"$LOG/sacctmgr.out" 2>&1 || true
  fi
  spawn slurmctld slurmctld -D -f "$SLURM_CONF"
  until_ok 30 scontrol ping || die "slurmctld: $(tail -n 3 "$LOG/slurmctld.log" "$LOG/slurmctld.out")"
  for t in $(nodes); do start_node "$t"; done
  until_ok 60 all_idle || { sinfo -N >&2; die "not every node came up"; }
  printf 'minicluster: %s nodes up in %.1f s (namespaces: %s, accounting: %s)\n' "$n" "$(echo "$(now) - $t0" | bc 2>/dev/null || echo 0)" "$NS" "$DBD"
}
all_idle() { ! sinfo -h -N -o %T | grep -qvE '^(idle|mixed|allocated|completing)$' && [[ $(sinfo -h -N -o %N | sort -u | wc -l) == $(nodes | wc -l) ]]; }

down() {
  local t
  [[ -d $RUN ]] || { echo "minicluster: nothing to stop"; return 0; }
  hold_lock
  NS=$(cat "$ETC/ns" 2>/dev/null || echo none)
  if alive slurmctld >/dev/null; then
    timeout 10 scancel --user="$ME" 2>/dev/null || true
    ((EUID != 0)) || timeout 10 scancel --state=PENDING,RUNNING,SUSPENDED 2>/dev/null || true
    until_ok 8 bash -c '! squeue -h | grep -q .' || true      # so that what ended is also accounted for
  fi
  for t in $(nodes); do
    alive "$t.init" >/dev/null && kill -TERM "$(alive "$t.init")" 2>/dev/null || true
  done
  for t in $(nodes); do stop "$t.init" TERM 3; stop "$t" KILL 2; [[ $NS == full ]] || sweep "$t"; done
  stop slurmctld TERM 10; stop slurmdbd TERM 2; stop mariadb TERM 10; stop munged
  echo "minicluster: down"
}

status() {
  local t bad=0 pid
  for t in munged $( ((DBD)) && echo mariadb slurmdbd) slurmctld $(nodes); do
    if pid=$(alive "$t" 2>/dev/null); then
      [[ -z $(nodes | grep -x "$t") ]] || pid=$(alive "$t.init")
      printf '%-10s pid %-8s %s MiB\n' "$t" "$pid" "$(for p in $(tree "$pid"); do awk '/^VmRSS/{print $2}' "/proc/$p/status" 2>/dev/null; done | awk '{s+=$1}END{printf "%.0f", s/1024}')"
    else printf '%-10s down\n' "$t"; bad=1; fi
  done
  if alive slurmctld >/dev/null 2>&1; then sinfo -N -o '%N %T %c %m %G %E' | sort -u; all_idle || bad=1; else bad=1; fi
  return $bad
}

case ${1:-} in
  up) up "${2:-4}" ;;
  down) down ;;
  status) status ;;
  env) cat <<C
export SLURM_CONF=$SLURM_CONF
export PATH="\$PATH:/usr/sbin"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
$([[ $(cat "$ETC/ns" 2>/dev/null) == full ]] || echo "export OMPI_MCA_btl=self,tcp   # all nodes have one hostname: shared memory of different nodes would collide")
C
    ;;
  crash) known_node "${2:?node}"; NS=$(cat "$ETC/ns"); crash_node "${2:?node}" ;;
  start) known_node "${2:?node}"; choose_ns; NS=$(cat "$ETC/ns"); [[ $NS == full ]] || UNSHARE=(); exec {LOCKFD}>"$ROOT/lock"; start_node "${2:?node}" ;;
  stop-slurmd) node_signal "${2:?node}" USR2 ;;
  start-slurmd) node_signal "${2:?node}" USR1 ;;
  *) sed -n '2,12p' "$SELF"; exit 2 ;;
esac

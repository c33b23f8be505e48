"""The names of saman's environment variables. No other module spells them."""

from __future__ import annotations

PREFIX = "SAMAN_"  # what an enclosing run or job must not hand on begins with this

# Set by people.
CACHE_DIR = "SAMAN_CACHE_DIR"  # folder of wheels, converters and profiles, instead of ~/.cache/saman
CLUSTER = "SAMAN_CLUSTER"  # the cluster of commands without --cluster
DEBUG = "SAMAN_DEBUG"  # set: an error of the system is shown with its traceback
LOG = "SAMAN_LOG"  # level of the messages of saman's loggers on standard error: debug, info, warning, error
LOCKS = "SAMAN_LOCKS"  # lease: file locks do not reach the other nodes (runs/locks.py)
LOCAL_RESULTS = "SAMAN_LOCAL_RESULTS"  # by the job script: a node's folder, copied to the run folder at the end
NEAREST_ADAPTER = "SAMAN_NEAREST_ADAPTER"  # by the job script: every rank gets the InfiniBand adapter nearest to it
SETTINGS = (CACHE_DIR, DEBUG, LOCAL_RESULTS, LOG, LOCKS, NEAREST_ADAPTER)  # hold for every process of a run
SIGTERM = "SAMAN_SIGTERM"  # "checkpoint": a rank that gets SIGTERM ends with a checkpoint

# Set by the launcher for the wrapper of every rank.
ATTEMPT = "SAMAN_ATTEMPT"
CODE_PATH = "SAMAN_CODE_PATH"  # folders of the user's modules, joined like PATH
COMPONENT = "SAMAN_COMPONENT"  # of a process beside the ranks: the name of its component
COMPONENT_TASK = "SAMAN_COMPONENT_TASK"  # its number in the component
COMPONENT_TASKS = "SAMAN_COMPONENT_TASKS"
CORES = "SAMAN_CORES"  # the cores of this machine that the run holds, separated by commas
DIRECTORY = "SAMAN_DIRECTORY"  # working directory of the program
GIVEN = "SAMAN_GIVEN"  # names of the variables in launch.environment, which override all others
LOG_LIMIT = "SAMAN_LOG_LIMIT"  # largest size of a process's log with its older part, in bytes
NODES_OF = "SAMAN_NODES_OF"  # with _ and the name of a component in capitals: its nodes, joined by commas
LARGEST_WORLD = "SAMAN_LARGEST_WORLD"  # of an elastic run: ranks in a world at most; further processes are spare
MEMBERSHIP = "SAMAN_MEMBERSHIP"  # of an elastic run: file with the address of its authority
NODES_OF_RANKS = "SAMAN_NODES_OF_RANKS"  # joined by commas
NODES_OF_SLOTS = "SAMAN_NODES_OF_SLOTS"  # of an elastic run: the node of each slot, joined by commas
PROCESSES = "SAMAN_PROCESSES"
RENDEZVOUS = "SAMAN_RENDEZVOUS"  # file with the port of Horovod's rendezvous server
REPLACES = "SAMAN_REPLACES"  # of an elastic run: how many processes had this slot before
RUN = "SAMAN_RUN"  # the run folder
STAGED_DATA = "SAMAN_STAGED_DATA"  # JSON: files and folders of data, and their copies on this node
SIZE = "SAMAN_SIZE"  # ranks of the run
STARTER = "SAMAN_STARTER"
STOP_SIGNAL = "SAMAN_STOP_SIGNAL"  # asks a user's program for a checkpoint, such as USR1
TF_ROLES = "SAMAN_TF_ROLES"  # of a user's program that gets TF_CONFIG: the roles beside workers

# Set by the wrapper for the program of a rank, besides RUN, ATTEMPT, PROCESSES and SIZE.
ADDRESS = "SAMAN_ADDRESS"  # of this node in the network of the run
CORES_PER_RANK = "SAMAN_CORES_PER_RANK"
FIRST_RANK = "SAMAN_FIRST_RANK"
HEARTBEAT = "SAMAN_HEARTBEAT"  # file of this process
LOCAL_PROCESS = "SAMAN_LOCAL_PROCESS"
LOCAL_PROCESSES = "SAMAN_LOCAL_PROCESSES"
NODE = "SAMAN_NODE"
PROCESS = "SAMAN_PROCESS"
TELEMETRY = "SAMAN_TELEMETRY"  # file of this process
RANKS_HERE = "SAMAN_RANKS_HERE"

# Set for single programs.
PREFLIGHT_BEGAN = "SAMAN_PREFLIGHT_BEGAN"  # Unix seconds
SLURM_LOG = "SAMAN_SLURM_LOG"  # the log of a Slurm job
TFJS_NODE = "SAMAN_TFJS_NODE"  # folder of the Node.js packages of the converter to TensorFlow.js

# Of the test cluster (slurm/minicluster.sh).
MINICLUSTER_ROOT = "SAMAN_MINICLUSTER_ROOT"

# click's, by the name of the program: a shell asks for completions.
COMPLETE = "_SAMAN_COMPLETE"


def nodes_of(component: str) -> str:
    """The name of the variable with the nodes of a component, joined by commas.

    >>> nodes_of("data_service")
    'SAMAN_NODES_OF_DATA_SERVICE'
    """
    return f"{NODES_OF}_{component.upper()}"

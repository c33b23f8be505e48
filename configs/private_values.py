"""Private values of an experiment: which values they are, and the references that replace them where others can read.

Users write ``${env:NAME}`` (a variable of whoever starts the run) and ``${file:PATH}`` (a file that only its owner
reads). saman writes ``${secret:KEY}`` in place of a private value, which it keeps beside the experiment in a file of
mode 0600.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from saman.configs.secrecy import HIDDEN, is_secret, text_without_secrets, without_secrets

SECRETS_FILE = "secrets.json"  # beside an experiment.yaml that holds ``${secret:KEY}``
# The keys that may hold private values
ENVIRONMENT, MLFLOW, WEBHOOK, COMMAND = "launch.environment", "tracking.mlflow", "notify.webhook", "notify.command"

_MAY_HOLD_PRIVATE = frozenset({ENVIRONMENT, WEBHOOK, COMMAND, "launch", "tracking", "notify"})

# Settings of libraries, which a reader needs to repeat the run. Any other variable may hold anything.
_PUBLIC_FAMILIES = (
    *("OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "NUMEXPR_", "BLIS_", "VECLIB_", "DNNL_", "ONEDNN_", "TBB_"),
    *("TF_", "XLA_", "KERAS_", "AUTOGRAPH_", "TFHUB_", "GRPC_", "ABSL_", "GLOG_"),
    *("CUDA_", "NVIDIA_", "NCCL_", "CUDNN_", "CUBLAS_", "HSA_", "HIP_", "ROCM_", "ROCR_", "MIOPEN_", "RCCL_"),
    *("HOROVOD_", "GLOO_", "OMPI_", "OPAL_", "PRTE_", "PMIX_", "I_MPI_", "MPICH_", "MPIR_", "HYDRA_", "UCX_", "FI_"),
    *("MALLOC_", "LD_", "PYTHON", "PATH", "LANG", "LC_", "TZ", "TMPDIR", "SLURM_", "SRUN_"),
)
_REFERENCE = re.compile(r"\$\{(?P<kind>env|file|secret):(?P<name>[^}]+)\}")
_USER_OF_URL = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*://)(?P<user>[^/@\s]+)@")
_QUERY = re.compile(r"(?P<before>[?&;](?P<name>[\w.-]+)=)(?P<value>[^&;#\s]+)")


def has_reference(text: str) -> bool:
    """Whether a value refers to another place."""
    return _REFERENCE.search(text) is not None


def is_private(variable: str, value: str, public: Collection[str] = ()) -> bool:
    """Whether to hide the value of an environment variable; ``public`` names the variables to show.

    >>> is_private("OMP_NUM_THREADS", "2"), is_private("WANDB_API_KEY", "x"), is_private("MODE", "x")
    (False, True, True)
    """
    if variable in public or not value or has_reference(value):
        return False
    return not variable.startswith(_PUBLIC_FAMILIES) or is_secret(variable) or text_without_secrets(value) != value


def public_change(key: str, value: Any) -> Any:
    """A change of an experiment for a file that others read: without its value if that may be private.

    >>> public_change("train.epochs", 3), public_change("launch.environment.TOKEN", "x"), public_change("notify", {})
    (3, '(left out)', '(left out)')
    """
    variable = key.removeprefix(f"{ENVIRONMENT}.")
    if key in _MAY_HOLD_PRIVATE or (variable != key and is_private(variable, str(value))):
        return HIDDEN
    return set_aside_uri(str(value))[0] if key == MLFLOW else value


def public_changes(study: Mapping[str, Any]) -> dict[str, Any]:
    """A study's ``set`` and program without private values, for a file that others read."""
    changes, program, confirm = (study.get(name) for name in ("set", "program", "confirm"))
    public = dict(study)
    if isinstance(changes, dict):
        public["set"] = {key: public_change(key, value) for key, value in changes.items()}
    if isinstance(program, dict):
        public["program"] = set_aside(program)[0]
    return {**public, "confirm": public_changes(confirm)} if isinstance(confirm, dict) else public


def set_aside(plain: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Take the private values out of an experiment or script.

    Args:
        plain: Its plain values.

    Returns:
        The plain values with references instead, and the private values by key.
    """
    kept: dict[str, str] = {}
    public = dict(plain)
    launch = plain.get("launch")
    if isinstance(launch, dict) and isinstance(launch.get("environment"), dict):
        shown = {}
        for name, value in launch["environment"].items():
            private = isinstance(value, str) and is_private(name, value, launch.get("public") or ())
            shown[name] = _keep(kept, f"{ENVIRONMENT}.{name}", value) if private else value
        public["launch"] = {**launch, "environment": shown}
    tracking = plain.get("tracking")
    if isinstance(tracking, dict) and isinstance(tracking.get("mlflow"), str):
        uri, found = set_aside_uri(tracking["mlflow"])
        kept |= found
        public["tracking"] = {**tracking, "mlflow": uri}
    of_notify = _private_notify(plain)

    def hidden(key: str, text: str) -> str:
        return _keep(kept, key, text) if key in of_notify and not has_reference(text) else text

    return _with_notify(public, hidden), kept


def _private_notify(plain: Mapping[str, Any]) -> set[str]:
    """The private keys of ``notify``: the path of a webhook is its password; words of a command may be secrets."""
    texts = _notify_texts(plain)
    words = {key: text for key, text in texts.items() if key != WEBHOOK}
    shown = without_secrets(list(words.values()))  # an option such as --token makes the next word a secret
    return {WEBHOOK, *(key for (key, text), public in zip(words.items(), shown, strict=True) if text != public)}


def _notify_texts(plain: Mapping[str, Any]) -> dict[str, str]:
    """The texts of ``notify`` by their keys."""
    notify = plain.get("notify")
    if not isinstance(notify, dict):
        return {}
    words = notify.get("command")
    texts = {f"{COMMAND}.{at}": str(word) for at, word in enumerate(words if isinstance(words, list) else ())}
    return {**texts, WEBHOOK: notify["webhook"]} if isinstance(notify.get("webhook"), str) else texts


def _with_notify(plain: dict[str, Any], change: Callable[[str, str], str]) -> dict[str, Any]:
    """The plain values with every text of ``notify`` changed, given its key."""
    texts = {key: change(key, text) for key, text in _notify_texts(plain).items()}
    if not texts:
        return plain
    notify = dict(plain["notify"])
    if WEBHOOK in texts:
        notify["webhook"] = texts.pop(WEBHOOK)
    if texts:
        notify["command"] = list(texts.values())
    return {**plain, "notify": notify}


def set_aside_uri(uri: str, key: str = MLFLOW) -> tuple[str, dict[str, str]]:
    """Take user, password and secret parameters out of a tracking URI.

    >>> set_aside_uri("http://ada:pw@host:5000/x")
    ('http://${secret:tracking.mlflow.user}@host:5000/x', {'tracking.mlflow.user': 'ada:pw'})
    """
    kept: dict[str, str] = {}

    def user(found: re.Match[str]) -> str:
        if has_reference(found["user"]):
            return found[0]
        return f"{found['scheme']}{_keep(kept, f'{key}.user', found['user'])}@"

    def parameter(found: re.Match[str]) -> str:
        if has_reference(found["value"]) or not is_secret(found["name"]):
            return found[0]
        return found["before"] + _keep(kept, f"{key}.{found['name']}", found["value"])

    return _QUERY.sub(parameter, _USER_OF_URL.sub(user, uri)), kept


def _keep(kept: dict[str, str], key: str, value: str) -> str:
    kept[key] = value
    return f"${{secret:{key}}}"


def references(plain: Mapping[str, Any], kind: str) -> dict[str, str]:
    """The names in references of a kind (``env``, ``file``, ``secret``), each with the key that has it."""
    launch, tracking = (part if isinstance(part, dict) else {} for part in (plain.get("launch"), plain.get("tracking")))
    variables = launch.get("environment")
    given = variables.items() if isinstance(variables, dict) else ()
    texts = {**{f"{ENVIRONMENT}.{name}": value for name, value in given}, MLFLOW: tracking.get("mlflow", "")}
    texts |= _notify_texts(plain)
    found = ((match, key) for key, text in texts.items() for match in _REFERENCE.finditer(str(text)))
    return {match["name"]: key for match, key in found if match["kind"] == kind}


def private_variables(written: Mapping[str, Any]) -> frozenset[str]:
    """Names of the environment variables with private values.

    Args:
        written: The plain values of an experiment or script, with references instead of private values.
    """
    given = written["launch"]["environment"]
    named = {name for name, text in given.items() if has_reference(text)}
    return frozenset(named | references(written, "env").keys())


def fill_references(plain: Mapping[str, Any], find: Callable[[str, str], str]) -> dict[str, Any]:
    """The plain values with each private value's reference replaced by what ``find`` returns for its kind and name."""
    filled = dict(plain)
    launch, tracking = plain.get("launch"), plain.get("tracking")
    if isinstance(launch, dict) and isinstance(launch.get("environment"), dict):
        values = {name: replace_references(str(text), find) for name, text in launch["environment"].items()}
        filled["launch"] = {**launch, "environment": values}
    if isinstance(tracking, dict) and isinstance(tracking.get("mlflow"), str):
        filled["tracking"] = {**tracking, "mlflow": replace_references(tracking["mlflow"], find)}
    return _with_notify(filled, lambda _, text: replace_references(text, find))


def replace_references(text: str, find: Callable[[str, str], str]) -> str:
    """Replace each reference of a text by the value that ``find`` returns for its kind and name."""
    return _REFERENCE.sub(lambda found: find(found["kind"], found["name"]), text)

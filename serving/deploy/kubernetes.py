"""A Kubernetes manifest for ``saman serve``: Deployment, Service and autoscaling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from saman.serving.deploy.service import ServiceCommand

MODELS = "/models"
_PROTECTED = ("--certificate", "--tokens", "--insecure")


def render_kubernetes(service: ServiceCommand, version: str) -> str:
    """Render the manifest as YAML documents.

    Args:
        service: The server. Its models folder is a volume claim, read-only but for the registry's rollouts.
        version: saman's version, for the image's tag.
    """
    documents = [_deployment(service, version), _service(service), _autoscaler(service)]
    head = (
        "# kubectl apply -f FILE\n"
        f"# Build the image saman:{version} (pip install 'saman[serve]'), put the models folder\n"
        "# on the volume claim saman-models, and keep strangers away: a NetworkPolicy, or --tokens.\n"
    )
    return head + yaml.safe_dump_all(documents, sort_keys=False, width=120)


def _labels(service: ServiceCommand) -> dict[str, str]:
    return {"app.kubernetes.io/name": "saman", "app.kubernetes.io/instance": service.name}


def _meta(service: ServiceCommand) -> dict[str, Any]:
    return {"name": f"saman-{service.name}", "labels": _labels(service)}


def _arguments(service: ServiceCommand) -> list[str]:
    """The words, listening on every address of the pod, with the models folder of the volume."""
    words, skip = [], False
    for word in service.words:
        if skip or word.startswith(("--host=", "--models-dir=")):
            skip = False
        elif word in ("--host", "--models-dir"):
            skip = True
        else:
            words.append(word)
    protected = any(word.partition("=")[0] in _PROTECTED for word in words)
    return [*words, "--host", "0.0.0.0", "--models-dir", MODELS, *([] if protected else ["--insecure"])]


def _deployment(service: ServiceCommand, version: str) -> dict[str, Any]:
    ports = [
        {"name": "rest", "containerPort": service.rest_port},
        {"name": "grpc", "containerPort": service.grpc_port},
    ]
    container = {
        "name": "saman",
        "image": f"saman:{version}",
        "command": [Path(service.program).name],
        "args": _arguments(service),
        "ports": ports,
        "startupProbe": _probe(service, 150),
        "readinessProbe": _probe(service, 1),
        "livenessProbe": {"tcpSocket": {"port": "rest"}, "periodSeconds": 10, "failureThreshold": 6},
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "4Gi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "models", "mountPath": MODELS}],
    }
    pod = {
        "terminationGracePeriodSeconds": 60,
        "containers": [container],
        "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "saman-models"}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(service),
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": _labels(service)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": _labels(service)}, "spec": pod},
        },
    }


def _probe(service: ServiceCommand, failures: int) -> dict[str, Any]:
    get = {"path": service.health_path, "port": "rest"}
    return {"httpGet": get, "periodSeconds": 2, "failureThreshold": failures}


def _service(service: ServiceCommand) -> dict[str, Any]:
    ports = [
        {"name": "rest", "port": service.rest_port, "targetPort": "rest"},
        {"name": "grpc", "port": service.grpc_port, "targetPort": "grpc"},
    ]
    spec = {"selector": _labels(service), "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _meta(service), "spec": spec}


def _autoscaler(service: ServiceCommand) -> dict[str, Any]:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": f"saman-{service.name}"}
    cpu = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}
    spec = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 10, "metrics": [cpu]}
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": _meta(service), "spec": spec}

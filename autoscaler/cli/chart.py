"""`leadtime chart sidecar`: the controller as a container in the Ray head's own pod, as YAML to paste.

The chart (charts/leadtime) is the other form. Not for applying anything: it prints.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from autoscaler import __version__
from autoscaler.cli.text import say, say_block
from autoscaler.common.errors import ConfigError

DESCRIPTION = """\
Print the controller as a sidecar of a Ray head: a ConfigMap with its settings, and what to put into the head's pod.
A sidecar looks after its own Ray cluster, needs no right to the Kubernetes API and no network but the pod's own; with
two clusters during an upgrade each has its own. Its learned state is lost with the head's pod."""
EXAMPLE = """
leadtime chart sidecar --service chat --namespace llm --image REGISTRY/leadtime:0.1.0 > sidecar.yaml
leadtime chart sidecar --service chat --namespace llm --config leadtime.yaml --token-secret chat-ray-token
"""

PORT = 8090
"""Of the sidecar's pages: 8080 is taken by Ray's metrics in that pod."""
_RAY_PORTS = {6379, 8000, 8080, 8265, 10001, 44217, 44227, 52365}
_SECRETS = "/etc/leadtime/secrets"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    sidecar = actions.add_parser(
        "sidecar",
        help="print a ConfigMap and the container for the pod of a Ray head",
        description=DESCRIPTION,
        epilog="example:\n  leadtime chart sidecar --service chat --namespace llm > sidecar.yaml",
    )
    sidecar.add_argument("--service", metavar="NAME", required=True, help="the RayService (in deployment keys)")
    sidecar.add_argument("--namespace", metavar="NS", default="default", help="its namespace (default: default)")
    sidecar.add_argument("--image", default=f"leadtime:{__version__}", help="the controller's image")
    sidecar.add_argument(
        "--config",
        metavar="F",
        type=Path,
        help="settings for it; what the pod needs is added where F says nothing",
    )
    sidecar.add_argument(
        "--token-secret", metavar="SECRET", help="Secret with key auth_token, for Ray's token authentication"
    )


def run(args: argparse.Namespace) -> int:
    import yaml

    from policies.yaml_core import dump_yaml

    if args.config is not None:
        _check_file(args.config)
    settings = _settings(args)
    text = dump_yaml(settings)
    _check(text)
    name = f"{args.service}-leadtime"
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": args.namespace, "labels": {"app.kubernetes.io/name": "leadtime"}},
        "data": {"leadtime.yaml": _Block(text)},
    }
    yaml.add_representer(_Block, _as_block, Dumper=yaml.SafeDumper)
    say("# 1. Apply this in the RayService's namespace.")
    say_block(yaml.safe_dump(config_map, sort_keys=False))
    say("---")
    say("# 2. Add these to spec.rayClusterConfig.headGroupSpec.template.spec (KubeRay then starts an upgrade).")
    say_block(yaml.safe_dump(_fragment(args, name, settings["server"]["port"]), sort_keys=False))
    return 0


# ---------------------------------------------------------------- the settings


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """The file's settings over those that a sidecar needs. Errors: ConfigError."""
    service: dict[str, Any] = {
        "name": args.service,
        "namespace": args.namespace,
        "dashboard": "http://127.0.0.1:8265",
    }
    if args.token_secret:
        service["token_file"] = f"{_SECRETS}/{args.token_secret}/auth_token"
    needed: dict[str, Any] = {
        "version": 1,
        "dry_run": True,
        "services": [service],
        "server": {"host": "0.0.0.0", "port": PORT},
        "state": {"path": "/var/lib/leadtime/leadtime.sqlite"},
        "journal": {"path": "/var/lib/leadtime/journal"},
    }
    if args.config is None:
        return needed
    from autoscaler.settings.document.reading import read_settings_file

    given = read_settings_file(args.config).data
    for key, value in given.items():
        both = isinstance(needed.get(key), dict) and isinstance(value, dict)
        needed[key] = {**needed[key], **value} if both else value
    _refuse_what_no_sidecar_can(needed, args.config)
    return needed


def _refuse_what_no_sidecar_can(settings: dict[str, Any], path: Path) -> None:
    from policies.capacity.load import preset_names, presets_in_words

    port = settings["server"].get("port")
    if port in _RAY_PORTS or port == 0:
        raise ConfigError(
            f"{path}: server.port: {port}; allowed in the head's pod: a port that Ray leaves free, as {PORT}"
        )
    for key in ("kubernetes", "leader_election"):
        if settings.get(key) not in (None, {"enabled": False}):
            raise ConfigError(f"{path}: {key}: a sidecar needs no Kubernetes API; allowed: leave it out")
    for i, entry in enumerate(settings.get("deployments") or ()):
        profile = entry.get("profile") if isinstance(entry, dict) else None
        if isinstance(profile, str) and profile not in preset_names() and (path.parent / profile).exists():
            where = f"{path}: deployments[{i}].profile: {profile!r}"
            raise ConfigError(f"{where}; is a file, which the ConfigMap does not carry; allowed: {presets_in_words()}")


def _check(text: str) -> None:
    """What is printed must be what `leadtime run` takes. Errors: ConfigError."""
    from autoscaler.settings import load_config

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "leadtime.yaml"
        path.write_text(text, encoding="utf-8")
        load_config(path, look_at_files=False)


def _check_file(path: Path) -> None:
    """Errors: ConfigError for anything wrong with a settings file but that it lists no service or version."""
    from autoscaler.settings import load_config
    from autoscaler.settings.document.problems import BadSettings

    try:
        load_config(path, look_at_files=False)
    except BadSettings as error:
        lines = [line for line in error.lines if ": services: " not in line and ": version: missing" not in line]
        if lines:
            raise BadSettings(lines) from None


# ---------------------------------------------------------------- the pod


def _fragment(args: argparse.Namespace, name: str, port: int) -> dict[str, Any]:
    mounts = [
        {"name": "leadtime-config", "mountPath": "/etc/leadtime/config", "readOnly": True},
        {"name": "leadtime-state", "mountPath": "/var/lib/leadtime"},
        {"name": "leadtime-tmp", "mountPath": "/tmp"},
    ]
    volumes: list[dict[str, Any]] = [
        {"name": "leadtime-config", "configMap": {"name": name}},
        {"name": "leadtime-state", "emptyDir": {"sizeLimit": "2Gi"}},
        {"name": "leadtime-tmp", "emptyDir": {"sizeLimit": "64Mi"}},
    ]
    if args.token_secret:
        mounts.append({"name": "leadtime-token", "mountPath": f"{_SECRETS}/{args.token_secret}", "readOnly": True})
        volumes.append({"name": "leadtime-token", "secret": {"secretName": args.token_secret}})
    container = {
        "name": "leadtime",
        "image": args.image,
        "args": ["run", "--config", "/etc/leadtime/config/leadtime.yaml", "--log-json"],
        "ports": [{"name": "leadtime", "containerPort": port}],
        # No readiness probe: a controller that is not ready must not take the Ray head out of service.
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": "leadtime"},
            "initialDelaySeconds": 60,
            "periodSeconds": 10,
            "failureThreshold": 6,
        },
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": mounts,
    }
    return {"containers": [container], "volumes": volumes}


class _Block(str):
    """Text that YAML shows as a block."""


def _as_block(dumper: Any, text: _Block) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|")

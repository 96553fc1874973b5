"""Journal records: what was observed, decided and why, one JSON object a line, enough to decide again. Pure encoders.

The file itself (rotation, flushing) is journal_file.py. Comparisons ignore `wall` and `applied`.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from autoscaler import __version__
from autoscaler.common.errors import JournalError
from autoscaler.core.state import ControllerState
from autoscaler.core.types import Applied, ControllerConfig, DeploymentSignals, Plan, Signals
from policies.base import DeploymentKey

JOURNAL_VERSION = 1
_IGNORED = ("wall", "applied")
NAMES = frozenset({"state", "settings", "policy", "key", "deployment", "deployments", "name", "kind"})
"""Keys of a record whose values are names or numbers, never text from another program."""


def checkpoint_record(
    state: ControllerState, config: ControllerConfig, state_within_bytes: float = math.inf
) -> dict[str, Any]:
    """First record of a file: everything that `replay` needs, the settings included.

    A state longer than `state_within_bytes` (as base64) is left out and `state_left_out` is set: decisions of such a
    file can be explained but not replayed. Errors: PolicyFault when the policy's memory is no plain data.
    """
    saved, long = state.to_bytes_within(state_within_bytes * 3 / 4)
    return {
        "kind": "checkpoint",
        "version": JOURNAL_VERSION,
        "state": base64.b64encode(saved).decode("ascii") if saved is not None else None,
        **({} if saved is not None else {"state_left_out": f"about {long * 4 // 3} bytes long"}),
        "config_sha256": config.sha256,
        "code_version": __version__,
        "policy": {"name": config.policy_name, "options": dict(config.policy_options)},
        "dry_run": config.dry_run,
        "settings": msgspec.to_builtins(config),
    }


def without_state(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint as shown outside of the files, without the state: it is long and of no use to people."""
    return {**checkpoint, "state": None, "state_left_out": "it is in the file"}


def tick_record(
    signals: Signals, plan: Plan, applied: Sequence[Applied] = (), wall: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """One tick: inputs, outputs and reasons."""
    plain = msgspec.to_builtins
    observations = {o.key: o for o in plan.observations}
    per_deployment: dict[str, Any] = {}
    for deployment in signals.deployments:
        observation = observations.get(deployment.key)
        entry: dict[str, Any] = {
            "rate_rps": observation.rate_rps if observation else None,
            "prompt_tokens": observation.mix.prompt_tokens if observation and observation.mix else None,
            "output_tokens": observation.mix.output_tokens if observation and observation.mix else None,
            "waiting": observation.waiting if observation else None,
            "ongoing": observation.ongoing if observation else None,
            "kv_usage_fraction": observation.kv_usage_fraction if observation else None,
            "as_of_s": deployment.metrics.as_of_s if deployment.metrics else None,
            "running": observation.running if observation else None,
            "starting": len(observation.starting) if observation else None,
            "draining": observation.draining if observation else None,
            "attained_fraction": observation.attained_fraction if observation else None,
            "inventory": plain(deployment.inventory),
            "metrics": plain(deployment.metrics),
        }
        if deployment.unreadable:
            entry["unreadable"] = deployment.unreadable
        if deployment.accepted is not None:
            entry["accepted"] = deployment.accepted
        per_deployment[str(deployment.key)] = entry
    return {
        "kind": "tick",
        "tick": plan.tick,
        "now_s": plan.now_s,
        "leader": plan.leader,
        "signals": per_deployment,
        "pools": plain(signals.pools),
        "sources": plain(signals.sources),
        "pause": {
            "everything": signals.pause.everything,
            "deployments": sorted(str(k) for k in signals.pause.deployments),
        },
        "hints": plain(signals.hints),
        **({"settings": plain(signals.settings)} if signals.settings else {}),
        **decision_record(plan),
        "applied": {a.what: {k: v for k, v in plain(a).items() if k != "what"} for a in applied},
        "wall": dict(wall or {}),
    }


def decision_record(plan: Plan) -> dict[str, Any]:
    """Outputs of a tick only: what `replay` compares."""
    plain = msgspec.to_builtins
    return {
        "forecast": {str(k): plain(f) for k, f in plan.forecasts.items()},
        "lead_times": {str(k): plain(t) for k, t in plan.lead_times.items()},
        "capacity_rps": {str(k): c for k, c in plan.capacities_rps.items()},
        "proposals": {str(d.key): d.proposed for d in plan.deployments},
        "plan": {
            "deployments": {str(d.key): d.target for d in plan.deployments},
            "observed": {str(d.key): d.observed_target for d in plan.deployments},
            "pools": {p.name: p.nodes for p in plan.pools},
        },
        "guards": [
            {
                "name": g.name,
                "deployment": str(g.deployment) if g.deployment else None,
                "from": g.before,
                "to": g.after,
                "why": g.why,
            }
            for g in (*plan.guards, *(g for d in plan.deployments for g in d.guards))
        ],
        "reasons": {
            **{str(d.key): {"sentence": d.sentence, "terms": plain(d.terms)} for d in plan.deployments},
            **{f"pool:{p.name}": {"terms": plain(p.terms)} for p in plan.pools},
        },
        "learned": list(plan.learned),
    }


def encode(record: Mapping[str, Any]) -> bytes:
    """One line: keys sorted, shortest round-trip floats, no line break inside."""
    return msgspec.json.encode(record, order="sorted") + b"\n"


def comparable(record: Mapping[str, Any]) -> bytes:
    """A record without `wall` and `applied`, for comparisons."""
    return encode({k: v for k, v in record.items() if k not in _IGNORED})


def decode_state(record: Mapping[str, Any]) -> ControllerState:
    """The state in a checkpoint record. Errors: JournalError."""
    if record.get("kind") != "checkpoint" or record.get("version") != JOURNAL_VERSION:
        raise JournalError(
            f"a journal begins with a checkpoint of version {JOURNAL_VERSION}; found kind {record.get('kind')!r}, "
            f"version {record.get('version')!r}"
        )
    if record.get("state_left_out"):
        raise JournalError(
            f"the controller's memory was left out of this file ({record['state_left_out']}, more than a third of "
            "journal.max_bytes): its decisions can be explained, not replayed"
        )
    try:
        return ControllerState.from_bytes(base64.b64decode(record["state"], validate=True))
    except (KeyError, ValueError, TypeError) as error:
        raise JournalError(f"checkpoint: state cannot be decoded: {error}") from error


def decode_settings(record: Mapping[str, Any]) -> ControllerConfig:
    """The settings in a checkpoint record (they hold no secret). Errors: JournalError."""
    try:
        return msgspec.convert(record["settings"], ControllerConfig)
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise JournalError(f"checkpoint: settings cannot be decoded: {error}") from error


class _TickInputs(msgspec.Struct):
    signals: dict[str, dict[str, Any]]
    pools: list[Any]
    sources: list[Any]
    pause: dict[str, Any]
    hints: list[Any]
    leader: bool
    settings: list[Any] = []
    """The annotations' entries; absent if there are none."""


def decode_signals(record: Mapping[str, Any]) -> Signals:
    """The inputs of a tick record, exactly as the controller got them. Errors: JournalError."""
    try:
        given = {k: record[k] for k in ("signals", "pools", "sources", "pause", "hints", "leader")}
        inputs = msgspec.convert({**given, "settings": record.get("settings", [])}, _TickInputs)
        deployments = []
        for text, entry in inputs.signals.items():
            half = {"key": msgspec.to_builtins(DeploymentKey.parse(text)), "inventory": entry["inventory"]}
            half["unreadable"] = entry.get("unreadable", "")
            half["accepted"] = entry.get("accepted")
            signals = msgspec.convert({**half, "metrics": _with_infinite_edges(entry["metrics"])}, DeploymentSignals)
            deployments.append(signals)
        pause = {
            "everything": inputs.pause["everything"],
            "deployments": [msgspec.to_builtins(DeploymentKey.parse(k)) for k in inputs.pause["deployments"]],
        }
        rest = msgspec.convert(
            {
                "pools": inputs.pools,
                "sources": inputs.sources,
                "pause": pause,
                "hints": inputs.hints,
                "leader": inputs.leader,
                "settings": inputs.settings,
            },
            Signals,
        )
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise JournalError(f"tick {record.get('tick')!r}: inputs cannot be decoded: {error}") from error
    return replace(rest, deployments=tuple(deployments))


def _with_infinite_edges(metrics: Any) -> Any:
    """JSON has no infinity: the last edge of a histogram comes back as null."""
    if not isinstance(metrics, dict):
        return metrics
    mended = dict(metrics)
    for name in ("ttft", "itl"):
        mended[name] = {
            series: {**h, "edges": [float("inf") if e is None else e for e in h["edges"]]}
            for series, h in metrics.get(name, {}).items()
        }
    return mended

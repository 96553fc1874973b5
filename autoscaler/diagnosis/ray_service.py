"""The checks of one Ray service: version, access, which deployments may be scaled, what the metrics pages say."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from autoscaler.actuators.ray_serve import MEND_AUTOSCALED, MEND_SWITCHED_OFF
from autoscaler.clients.addresses import TargetRules
from autoscaler.clients.ray_dashboard import DashboardClient
from autoscaler.common.errors import LeadtimeError
from autoscaler.core.gangs import no_whole_gang, whole_bounds
from autoscaler.core.types import ActWay, ControllerConfig, DeploymentInventory, DeploymentSettings
from autoscaler.diagnosis.finding import Finding
from autoscaler.diagnosis.serve_policy import policy_findings
from autoscaler.diagnosis.versions import of_version
from autoscaler.sources.join import NodePage
from autoscaler.sources.names import (
    HAPROXY,
    ROLES,
    SERVE_ONGOING,
    SERVE_QUEUED,
    SERVE_ROUTED,
    VLLM_FINISHED,
    VLLM_KV_USAGE,
    VLLM_MEAN_ITL_BUCKET,
    VLLM_OUTPUT_TOKENS,
    VLLM_PROMPT_TOKENS,
    VLLM_RUNNING,
    VLLM_TTFT_BUCKET,
    VLLM_WAITING,
)
from autoscaler.sources.node_metrics import NodeMetricsSource
from autoscaler.sources.ray_dashboard import RayDashboardSource, check_status
from autoscaler.sources.readings import Inventories, NodePages
from policies.base import DeploymentKey

VERSION_PATH = "/api/version"
_SERVE = (SERVE_ROUTED, SERVE_QUEUED, SERVE_ONGOING)
_VLLM = (
    VLLM_RUNNING, VLLM_WAITING, VLLM_KV_USAGE, VLLM_PROMPT_TOKENS, VLLM_OUTPUT_TOKENS, VLLM_FINISHED, VLLM_TTFT_BUCKET,
    VLLM_MEAN_ITL_BUCKET,
)  # fmt: skip


async def service_findings(
    config: ControllerConfig,
    namespace: str,
    name: str,
    client: DashboardClient,
    timeout_s: float = 4.0,
    rules: TargetRules | None = None,
    entries: tuple[DeploymentSettings, ...] = (),
    act: ActWay = "external",
) -> list[Finding]:
    """`rules`: where metric pages may be; `entries`: what annotations make. Closes the client. Never raises for what is
    wrong out there."""
    subject = f"{namespace}/{name}"
    pages = NodeMetricsSource("metrics", namespace, name, client, timeout_s=timeout_s, rules=rules)
    try:
        read = await RayDashboardSource("dashboard", namespace, name, client, act).read(time.time())
        if not isinstance(read.data, Inventories):
            return [Finding("fail", f"{subject} dashboard", read.why)]
        findings = [await _version(subject, client)]
        with_token = "with the token" if client.sends_token else "without a token"
        found = len(read.data.deployments)
        findings.append(
            Finding("ok", f"{subject} dashboard", f"{client.shown} answers {with_token}: {found} deployments")
        )
        findings += deployment_findings(subject, config, read.data.deployments, entries)
        metrics = await pages.read(time.time())
        if not isinstance(metrics.data, NodePages) or not metrics.up:
            mend = "open the metrics ports of all Ray nodes to the controller"
            return [*findings, Finding("fail", f"{subject} metrics", metrics.why or "no pages", mend)]
        if metrics.why:
            findings.append(Finding("warn", f"{subject} metrics", metrics.why))
        matches = [entry.match for entry in (*entries, *config.deployments)]
        findings += path_findings(matches, read.data.deployments, metrics.data.pages)
        return [*findings, *metric_findings(subject, metrics.data.pages)]
    finally:
        await pages.close()
        await client.close()


async def _version(subject: str, client: DashboardClient) -> Finding:
    try:
        answer = await client.get(VERSION_PATH)
        check_status(answer, client)
        document = answer.json()
        version = document.get("ray_version") if isinstance(document, dict) else None
    except (LeadtimeError, ValueError) as error:
        return Finding("warn", f"{subject} version", f"it cannot be read: {error}")
    if not isinstance(version, str):
        return Finding("warn", f"{subject} version", f"{client.shown}{VERSION_PATH} names no version")
    return of_version(f"{subject} version", "Ray", version)


# ---------------------------------------------------------------- deployments


def gang_findings(key: DeploymentKey, gang_size: int, entry: DeploymentSettings) -> Iterator[Finding]:
    """Does a whole number of gangs lie within the bounds, and what do they come to?"""
    why = no_whole_gang(entry, gang_size)
    if why:
        yield Finding("fail", str(key), f"{why}: its level stays as it is", "change replicas.min or replicas.max")
        return
    whole = whole_bounds(entry, gang_size)
    words = f"gangs of {gang_size} replicas: between {whole.min_replicas} and {whole.max_replicas}"
    yield Finding("ok", str(key), words)


def deployment_findings(
    subject: str,
    config: ControllerConfig,
    inventories: Mapping[DeploymentKey, DeploymentInventory],
    entries: tuple[DeploymentSettings, ...] = (),
) -> Iterator[Finding]:
    """Of each deployment that settings match: may its targets be set from outside, and are they let be?"""
    looked_after = 0
    for key, seen in sorted(inventories.items()):
        if not any(key.matches(entry.match) for entry in (*entries, *config.deployments)):
            continue
        looked_after += 1
        if seen.gang_size > 1:
            entry = next(e for e in (*entries, *config.deployments) if key.matches(e.match))
            yield from gang_findings(key, seen.gang_size, entry)
        if seen.act == "policy" or (seen.autoscaling is not None and seen.autoscaling.follows_plan):
            entry = next(e for e in (*entries, *config.deployments) if key.matches(e.match))
            yield from policy_findings(config, key, seen, entry)
        elif seen.autoscaled_by_serve:
            words = "Serve's own autoscaler works on it"
            yield Finding("warn" if config.dry_run else "fail", str(key), words, MEND_AUTOSCALED)
        elif seen.external_scaler_enabled is False:
            words = "external_scaler_enabled is false"
            yield Finding("warn" if config.dry_run else "fail", str(key), words, MEND_SWITCHED_OFF)
        elif seen.external_scaler_enabled is None:
            yield Finding("warn", str(key), "the dashboard does not say whether external_scaler_enabled is true")
        else:
            yield Finding("ok", str(key), f"may be scaled; target {seen.target}, {seen.count('RUNNING')} running")
    if not looked_after:
        names = ", ".join(str(key) for key in sorted(inventories)) or "none"
        mend = f"deployments[].match must match one of: {names}"
        yield Finding("warn", f"{subject} deployments", "no settings match any of them", mend)


# ---------------------------------------------------------------- the path of its requests


def path_findings(
    matches: Sequence[str], inventories: Mapping[DeploymentKey, DeploymentInventory], pages: Mapping[str, NodePage]
) -> Iterator[Finding]:
    """By which way requests come to each deployment, and what counts them there (docs/ray-paths.md)."""
    haproxy = any(series.name == HAPROXY for page in pages.values() for series, _ in page.samples)
    chosen = {(key.app, seen.chooses_for) for key, seen in inventories.items() if seen.chooses_for}
    for key, seen in sorted(inventories.items()):
        if not any(key.matches(match) for match in matches):
            continue
        if not haproxy:
            yield Finding("ok", str(key), "requests come by Serve's Python proxy or by handles: handles count them")
        elif seen.chooses_for:
            words = f"it names replicas of {seen.chooses_for} to HAProxy, and carries no requests"
            yield Finding("warn", str(key), words, "leave its size to Serve: take it out of deployments[].match")
        elif (key.app, key.deployment) in chosen:
            yield Finding("ok", str(key), "requests come by HAProxy with direct streaming: its router counts them")
        elif seen.is_ingress:
            yield Finding("ok", str(key), "requests come straight from HAProxy: the front and its replicas count them")
        else:
            yield Finding("ok", str(key), "requests come by HAProxy and an ingress before it: handles count them")


# ---------------------------------------------------------------- metrics


def metric_findings(subject: str, pages: Mapping[str, NodePage]) -> Iterator[Finding]:
    """Which of the names that are read are there. Another name with the same meaning counts."""
    names = {series.name for page in pages.values() for series, _ in page.samples}
    fields = {ROLES[name].field for name in names if name in ROLES}
    for what, wanted, mend in (
        ("Serve's metrics", _SERVE, "Serve shows them after the first requests; send one and look again"),
        ("vLLM's metrics", _VLLM, "without them capacity and latency are not seen: set `log_engine_metrics: true` in "
         "LLMConfig, send a request and look again (an engine other than vLLM has none)"),
    ):  # fmt: skip
        missing = [name for name in wanted if ROLES[name].field not in fields]
        words = f"{len(wanted) - len(missing)} of {len(wanted)} on {len(pages)} pages"
        if missing:
            yield Finding("warn", f"{subject} metrics", f"{what}: {words}; missing: {', '.join(missing)}", mend)
        else:
            yield Finding("ok", f"{subject} metrics", f"{what}: {words}")

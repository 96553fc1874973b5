"""What types and bounds of a scenario cannot say: keys that contradict each other, and names of what is not there.

Every check gives Problems (where, what, what is allowed) and changes nothing. Not for wording types, and not for the
rows of traces (traces.py says those itself).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from autoscaler.settings.document.blocks import schedule_problems
from autoscaler.settings.document.gpu_kinds import naming_hint
from autoscaler.settings.document.problems import Problem, did_you_mean, shown
from autoscaler.settings.document.reading import Loc
from policies.base import DeploymentKey, PolicyError, whole_down, whole_up
from policies.capacity import EngineProfile
from policies.options import exact
from simulator.scenario.faults import check_faults
from simulator.scenario.file import ScenarioFile
from simulator.scenario.fleet import DeploymentBlock, NodePoolBlock
from simulator.scenario.traffic import HistoryBlock, SyntheticBlock, WorkloadBlock
from simulator.workload.traces import MAX_REQUESTS_PER_BIN

_MAX_BINS = 1e7


def check_file(file: ScenarioFile) -> list[Problem]:
    """Problems that show without reading any other file."""
    return [
        *_twice("node_pools", [p.name for p in file.node_pools]),
        *_twice("deployments", [d.name for d in file.deployments]),
        *(problem for i, d in enumerate(file.deployments) for problem in _deployment(("deployments", i), d, file)),
        *(problem for i, p in enumerate(file.node_pools) for problem in _pool(("node_pools", i), p)),
        *check_faults(file.faults, file.deployments),
    ]


def _twice(block: str, values: Sequence[str]) -> Iterator[Problem]:
    for i, value in enumerate(values):
        first = values.index(value)
        if first < i:
            yield Problem((block, i, "name"), f"{value!r}; {block}[{first}] has it already; allowed: each only once")


def _at_most(at: Loc, key: str, value: float | None, limit_key: str, limit: float | None) -> Iterator[Problem]:
    """Two keys of the block at `at`, dotted. Whoever typed the limit is to blame as well."""
    if value is not None and limit is not None and value > limit:
        text = f"{exact(value)}; allowed: at most {limit_key}, which is {exact(limit)}"
        yield Problem((*at, *key.split(".")), text, ((*at, *limit_key.split(".")),))


def _deployment(at: Loc, d: DeploymentBlock, file: ScenarioFile) -> Iterator[Problem]:
    try:
        DeploymentKey.parse(d.name)
    except PolicyError:
        allowed = "APP/DEPLOYMENT or NAMESPACE/SERVICE/APP/DEPLOYMENT"
        yield Problem((*at, "name"), f"{shown((), d.name)}; allowed: {allowed}")
    yield from _at_most(at, "replicas.min", d.replicas.min, "replicas.max", d.replicas.max)
    yield from _at_most(at, "replicas.initial", d.replicas.initial, "replicas.max", d.replicas.max)
    if d.replicas.initial is not None and d.replicas.initial < d.replicas.min:
        text = f"{d.replicas.initial}; allowed: at least replicas.min, which is {d.replicas.min}"
        yield Problem((*at, "replicas", "initial"), text, ((*at, "replicas", "min"),))
    yield from _gangs(at, d)
    yield from _pools_of(at, d, [p.name for p in file.node_pools])
    yield from _workload((*at, "workload"), d.workload, file)
    if d.history is not None:
        yield from _history((*at, "history"), d.history, d.workload)
    for i, hint in enumerate(d.hints):
        if (hint.rps is None) == (hint.multiplier is None):
            yield Problem((*at, "hints", i), "exactly one of rps and multiplier is needed")
        if hint.end_s <= hint.start_s:
            yield from _after(at, "hints", i, hint.start_s, hint.end_s)
    yield from schedule_problems(d.schedule, (*at, "schedule"))


def _gangs(at: Loc, d: DeploymentBlock) -> Iterator[Problem]:
    """A whole number of gangs must lie within the bounds, and be what runs at time 0."""
    size, replicas = d.gang_size, d.replicas
    if replicas.initial is not None and replicas.initial % size:
        text = f"{replicas.initial}; allowed: a multiple of gang_size, which is {size}"
        yield Problem((*at, "replicas", "initial"), text, ((*at, "gang_size"),))
    least = max(whole_up(replicas.min, size), size)
    if size > 1 and whole_down(replicas.max, size) < least:
        text = f"{size}; allowed: one of which a whole number lies within replicas, {replicas.min} to {replicas.max}"
        yield Problem((*at, "gang_size"), text, ((*at, "replicas", "max"), (*at, "replicas", "min")))


def _after(at: Loc, block: str, i: int, start_s: float, end_s: float) -> Iterator[Problem]:
    """An end that is not after its start."""
    text = f"{exact(end_s)}; allowed: after start_s, which is {exact(start_s)}"
    yield Problem((*at, block, i, "end_s"), text, ((*at, block, i, "start_s"),))


def _pools_of(at: Loc, d: DeploymentBlock, names: Sequence[str]) -> Iterator[Problem]:
    if d.node_pool is not None and d.node_pools:
        yield Problem((*at, "node_pools"), "written beside node_pool; allowed: one of the two")
    elif not d.pools:
        yield Problem((*at, "node_pools"), f"missing; allowed: a list of {', '.join(names)}")
    for i, pool in enumerate(d.pools):
        if pool not in names:
            loc = (*at, "node_pool") if d.node_pool is not None else (*at, "node_pools", i)
            yield Problem(loc, f"{pool!r}; allowed: {', '.join(names)}{did_you_mean(pool, names)}")


def _workload(at: Loc, w: WorkloadBlock, file: ScenarioFile) -> Iterator[Problem]:
    given = [n for n in ("requests", "rates", "synthetic") if getattr(w, n) is not None]
    if len(given) != 1:
        text = "none of them is given" if not given else f"{' and '.join(given)} are given"
        yield Problem(at, f"{text}; allowed: exactly one of requests, rates, synthetic")
    if w.repeat and file.duration_s is None:
        yield Problem((*at, "repeat"), "true; allowed: only with a duration_s of the scenario, or it never ends")
    for name in ("prompt_tokens", "output_tokens"):
        if w.requests is not None and getattr(w, name) is not None:
            yield Problem((*at, name), "given, but a requests trace has its own lengths; allowed: leave it out")
        inner = getattr(w.synthetic, name, None)
        if w.synthetic is not None and getattr(w, name) is None and inner is None:
            yield Problem((*at, name), "missing; allowed: tokens, or {median: .., p99: ..}")
    if w.synthetic is not None and w.synthetic.week and len(w.synthetic.week) != 7:
        text = f"{len(w.synthetic.week)} factors; allowed: 7, one for each day"
        yield Problem((*at, "synthetic", "week"), text)
    if w.synthetic is not None:
        yield from _in_memory((*at, "synthetic"), w.synthetic, w.rate_scale)


def _in_memory(at: Loc, s: SyntheticBlock, rate_scale: float) -> Iterator[Problem]:
    """All bins are held at once, and the arrivals of a bin."""
    if s.duration_s / s.bin_s > _MAX_BINS:
        allowed = f"at most {exact(_MAX_BINS)} bins in duration_s, which is {exact(s.duration_s)}"
        yield Problem((*at, "bin_s"), f"{exact(s.bin_s)}; allowed: {allowed}", ((*at, "duration_s"),))
    if (requests := s.base_rps * rate_scale * s.bin_s) > MAX_REQUESTS_PER_BIN:
        allowed = f"at most {exact(MAX_REQUESTS_PER_BIN)} requests in a bin of bin_s"
        text = f"{exact(s.base_rps)}, {exact(requests)} requests in a bin; allowed: {allowed}"
        yield Problem((*at, "base_rps"), text, ((*at, "bin_s"), (*at[:-1], "rate_scale")))


def _history(at: Loc, h: HistoryBlock, w: WorkloadBlock) -> Iterator[Problem]:
    if (h.rates is not None) + (h.requests is not None) + h.workload != 1:
        yield Problem(at, "exactly one of rates, requests and workload: true is needed")
    if h.workload and not w.start_s:
        yield Problem(
            (*at, "workload"), "true; allowed: only with a workload.start_s > 0, or there is nothing before it"
        )


def _pool(at: Loc, p: NodePoolBlock) -> Iterator[Problem]:
    nodes = p.nodes
    for name in ("min", "initial", "reserved"):
        yield from _at_most(at, f"nodes.{name}", getattr(nodes, name), "nodes.max", nodes.max)
    if nodes.initial is not None and nodes.initial < nodes.min:
        text = f"{nodes.initial}; allowed: at least nodes.min, which is {nodes.min}"
        yield Problem((*at, "nodes", "initial"), text, ((*at, "nodes", "min"),))
    yield from _at_most(at, "worker.gpus", p.worker.gpus, "gpus_per_node", p.gpus_per_node)
    if p.preemption_per_node_hour > 0 and not p.spot:
        text = f"{exact(p.preemption_per_node_hour)}; allowed: 0 unless spot is true"
        yield Problem((*at, "preemption_per_node_hour"), text, ((*at, "spot"),))
    for i, s in enumerate(p.stockouts):
        if s.end_s <= s.start_s:
            yield from _after(at, "stockouts", i, s.start_s, s.end_s)


def check_profiles(file: ScenarioFile, profiles: Sequence[EngineProfile]) -> list[Problem]:
    """Problems that show once the engine profiles (one per deployment) are read."""
    problems: list[Problem] = []
    kinds = sorted({p.gpu for p in profiles})
    for kind, budget in file.gpu_budget.items():
        if kind not in kinds:
            words = f"no deployment runs on it (profiles use: {', '.join(kinds)}){did_you_mean(kind, kinds)}"
            problems.append(Problem(("gpu_budget", kind), words + naming_hint(kind, kinds)))
            continue
        of_kind = [d for d, p in zip(file.deployments, profiles, strict=True) if p.gpu == kind]
        guaranteed = sum(d.guaranteed_gpus for d in of_kind)
        if guaranteed > budget:
            words = (
                f"{budget}; allowed: at least the guaranteed_gpus of its deployments together, which is {guaranteed}"
            )
            owners = (i for i, p in enumerate(profiles) if p.gpu == kind)
            parts = tuple(("deployments", i, "guaranteed_gpus") for i in owners)
            problems.append(Problem(("gpu_budget", kind), words, parts))
    for i, (d, profile) in enumerate(zip(file.deployments, profiles, strict=True)):
        for name in d.pools:
            pool = next(p for p in file.node_pools if p.name == name)
            room, what = pool.gpus_per_node, "gpus_per_node"
            if pool.worker.gpus is not None:
                room, what = pool.worker.gpus, "worker.gpus"
            if profile.gpus > room:
                allowed = f"at most {room}, {what} of pool {name}"
                text = f"{d.profile!r}: a replica needs {profile.gpus} GPUs; allowed: {allowed}"
                at: Loc = ("deployments", i)
                others = ((*at, "node_pools"), (*at, "node_pool"), ("node_pools", file.node_pools.index(pool)))
                problems.append(Problem((*at, "profile"), text, others))
    return problems

"""What types and bounds cannot say: settings that contradict each other, name what is not there, or need a file.

Every check gives Problems (where, what, what is allowed) and changes nothing. Not for
wording types (document/problems.py) and not for the files that the settings name (files.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from autoscaler.settings.deployments import Deployment
from autoscaler.settings.document.blocks import schedule_problems
from autoscaler.settings.document.gpu_kinds import naming_hint
from autoscaler.settings.document.problems import Problem, did_you_mean, shown
from autoscaler.settings.document.reading import Loc, SettingsFile
from autoscaler.settings.files import check_variables
from autoscaler.settings.kinds import PATTERN_WORDS
from autoscaler.settings.paths import policy_name, read_profile
from autoscaler.settings.pools import NodePool
from autoscaler.settings.prewarm import check_prewarm
from autoscaler.settings.settings import Settings
from policies.base import DeploymentKey, PolicyError
from policies.capacity import EngineProfile
from policies.capacity.load import preset_names, presets_in_words
from policies.options import exact


def check_settings(settings: Settings, file: SettingsFile) -> list[Problem]:
    """All problems that do not depend on the files of this machine, engine profiles aside."""
    return [
        *_duplicates(settings),
        *_where(settings),
        *_bounds(settings),
        *_keys(settings),
        *_guarantees(settings),
        *_schedules(settings),
        *_fleet(settings, file),
        *_policy(settings, file),
        *check_prewarm(settings),
        *_server(settings),
        *_sources(settings),
        *check_variables(settings),
    ]


# ---------------------------------------------------------------- names and bounds


def _duplicates(settings: Settings) -> Iterator[Problem]:
    yield from _twice("services", "name", [f"{s.namespace}/{s.name}" for s in settings.services])
    yield from _twice("node_pools", "name", [p.name for p in settings.node_pools])
    yield from _twice("deployments", "match", [d.match for d in settings.deployments])


def _twice(block: str, key: str, values: Sequence[str]) -> Iterator[Problem]:
    for i, value in enumerate(values):
        first = values.index(value)
        if first < i:
            yield Problem((block, i, key), f"{value!r}; {block}[{first}] has it already; allowed: each only once")


def _where(settings: Settings) -> Iterator[Problem]:
    """Something to look after; and a cluster, for what only a cluster has."""
    if settings.kubernetes is not None:
        yield from _twice_name(("kubernetes", "watch_namespaces"), settings.kubernetes.watch_namespaces)
        return
    if not settings.services:
        yield Problem(("services",), "none; allowed: at least one, or kubernetes, which finds them")
    if settings.leader_election.enabled:
        text = "true; without kubernetes there is no lease; allowed: false (run a single controller), or add kubernetes"
        yield Problem(("leader_election", "enabled"), text)


def _twice_name(loc: Loc, names: Sequence[str]) -> Iterator[Problem]:
    for i, name in enumerate(names):
        if name in names[:i]:
            yield Problem((*loc, i), f"{name!r}; allowed: each only once")


def _bounds(settings: Settings) -> Iterator[Problem]:
    for i, d in enumerate(settings.deployments):
        yield from _at_most(("deployments", i, "replicas", "min"), d.replicas.min, "replicas.max", d.replicas.max)
    for i, p in enumerate(settings.node_pools):
        yield from _at_most(("node_pools", i, "min_nodes"), p.min_nodes, "max_nodes", p.max_nodes)
    yield from _nodes_of_ray(settings)
    guards, election = settings.guards, settings.leader_election
    if guards.stale_after_s < 2 * settings.tick_s:
        text = f"{exact(guards.stale_after_s)}; allowed: at least two ticks, which is {exact(2 * settings.tick_s)}"
        yield Problem(("guards", "stale_after_s"), text)
    if election.renew_deadline_s >= election.lease_s:
        text = f"{exact(election.renew_deadline_s)}; allowed: less than lease_s, which is {exact(election.lease_s)}"
        yield Problem(("leader_election", "renew_deadline_s"), text)


def _nodes_of_ray(settings: Settings) -> Iterator[Problem]:
    """A list of nodes of which no pool is told, or which several clusters tell of one pool."""
    told = [i for i, s in enumerate(settings.services) if s.nodes]
    for i in told:
        if not settings.node_pools:
            yield Problem(("services", i, "nodes"), "true; there are no node_pools; allowed: with node_pools")
        elif i != told[0]:
            text = f"true; services[{told[0]}] tells of the nodes; allowed: true for one service"
            yield Problem(("services", i, "nodes"), text)


def _at_most(loc: Loc, value: int, limit_key: str, limit: int | None) -> Iterator[Problem]:
    if limit is not None and value > limit:
        yield Problem(loc, f"{value}; allowed: at most {limit_key}, which is {limit}")


def _keys(settings: Settings) -> Iterator[Problem]:
    for i, d in enumerate(settings.deployments):
        if not _is_pattern(d.match):
            yield Problem(("deployments", i, "match"), f"{shown((), d.match)}; allowed: {PATTERN_WORDS}")
        if d.follows is None:
            continue
        loc: Loc = ("deployments", i, "follows", "deployment")
        followed = d.follows.deployment
        if not _is_pattern(followed):
            yield Problem(loc, f"{shown((), followed)}; allowed: {PATTERN_WORDS}")
        elif followed == d.match or DeploymentKey.parse(followed).matches(d.match):
            yield Problem(loc, f"{followed!r}; allowed: another deployment than the ones that this entry matches")


def _guarantees(settings: Settings) -> Iterator[Problem]:
    """A namesake in any other namespace would share a guarantee that names no namespace."""
    cluster = settings.kubernetes
    if cluster is None or len(cluster.watch_namespaces) == 1:
        return
    for i, d in enumerate(settings.deployments):
        parts = d.match.split("/")
        if d.guaranteed_gpus and (len(parts) != 4 or set(parts[0]) & set("*?[")):
            allowed = "allowed: 0, or a match that names its namespace: NAMESPACE/*/APP/DEPLOYMENT"
            text = f"{d.guaranteed_gpus}; it would be for every namespace that is watched; {allowed}"
            yield Problem(("deployments", i, "guaranteed_gpus"), text)


def _schedules(settings: Settings) -> Iterator[Problem]:
    for i, d in enumerate(settings.deployments):
        loc: Loc = ("deployments", i, "schedule")
        yield from schedule_problems(d.schedule, loc)
        if d.schedule and d.follows is not None:
            yield Problem(loc, "an entry that follows another one has no demand of its own; allowed: none")


def _is_pattern(text: str) -> bool:
    try:
        DeploymentKey.parse(text)
    except PolicyError:
        return False
    return not any(c.isspace() for c in text)


# ---------------------------------------------------------------- pools, profiles, budget


def _fleet(settings: Settings, file: SettingsFile) -> Iterator[Problem]:
    pools = {p.name: p for p in settings.node_pools}
    profiles: dict[int, EngineProfile] = {}
    for i, d in enumerate(settings.deployments):
        try:
            if d.profile is not None:
                profiles[i] = read_profile(file, d.profile)
        except PolicyError as error:
            yield Problem(("deployments", i, "profile"), _profile_words(d.profile or "", str(error)))
        for j, name in enumerate(d.node_pools):
            loc: Loc = ("deployments", i, "node_pools", j)
            if name not in pools:
                allowed = ", ".join(pools) or "a name from node_pools, which has none"
                yield Problem(loc, f"{name!r}; allowed: {allowed}{did_you_mean(name, pools)}")
            else:
                yield from _fits(loc, d, pools[name], profiles.get(i))
    yield from _budget(settings, profiles)


def _profile_words(name: str, message: str) -> str:
    if "neither a file nor a preset" not in message:
        return message
    presets = preset_names()
    return f"{name!r}; allowed: the path of a file, or {presets_in_words()}{did_you_mean(name, presets)}"


def _fits(loc: Loc, deployment: Deployment, pool: NodePool, profile: EngineProfile | None) -> Iterator[Problem]:
    gpus = deployment.gpus_per_replica or (profile.gpus if profile else 1)
    if gpus > pool.gpus_per_node:
        needs = f"a replica needs {gpus} GPUs, a node of this pool has {pool.gpus_per_node}"
        yield Problem(loc, f"{pool.name!r}; {needs}; allowed: pools with gpus_per_node >= {gpus}")
    if profile is not None and pool.gpu and pool.gpu != profile.gpu:
        kinds = f"its GPUs are {pool.gpu}, profile {profile.name} is for {profile.gpu}"
        yield Problem(loc, f"{pool.name!r}; {kinds}; allowed: a pool of {profile.gpu}, or another profile")


def _budget(settings: Settings, profiles: dict[int, EngineProfile]) -> Iterator[Problem]:
    """A kind of GPU that nothing uses would be a limit that never holds: most likely a slip of the pen."""
    own = settings.tenants.gpu
    if own is not None and own not in settings.gpu_budget:
        allowed = ", ".join(settings.gpu_budget) or "null; gpu_budget has no kind"
        yield Problem(("tenants", "gpu"), f"{own!r}; allowed: {allowed}{did_you_mean(own, settings.gpu_budget)}")
    kinds = sorted({p.gpu for p in profiles.values()} | {p.gpu for p in settings.node_pools if p.gpu})
    for kind, budget in settings.gpu_budget.items():
        if kind not in kinds:
            allowed = ", ".join(kinds) or "a kind that a profile or node_pools[].gpu names; none does"
            words = f"no such GPU kind here; allowed: {allowed}{did_you_mean(kind, kinds)}"
            yield Problem(("gpu_budget", kind), words + naming_hint(kind, kinds))
            continue
        guaranteed = sum(settings.deployments[i].guaranteed_gpus for i, p in profiles.items() if p.gpu == kind)
        if guaranteed > budget:
            text = f"{budget}; allowed: at least the guaranteed_gpus of its deployments together, which is {guaranteed}"
            yield Problem(("gpu_budget", kind), text)


# ---------------------------------------------------------------- the policy


def _policy(settings: Settings, file: SettingsFile) -> Iterator[Problem]:
    from policies.registry import create_policy, policy_names

    name = policy_name(settings, file)
    names = policy_names()
    if name not in names and ".py:" not in name:
        allowed = f"{', '.join(names)}, FILE.py:CLASS"
        yield Problem(("policy", "name"), f"{shown((), name)}; allowed: {allowed}{did_you_mean(name, names)}")
        return
    try:
        policy = create_policy(name, settings.policy.options)
    except PolicyError as error:
        yield _policy_problem(name, str(error))
        return
    if policy.clairvoyant:
        text = f"{name!r} with these options needs to know the future, as only the simulator can tell it"
        text += "; allowed: other options or another policy"
        yield Problem(("policy", "name"), text)
    elif policy.needs_history:
        text = f"{name!r} without numbers is derived from a scenario's history, as only the simulator can do it"
        yield Problem(
            ("policy", "options"), f"{text}; allowed: numbers; `leadtime simulate --json` shows what it found"
        )


def _policy_problem(name: str, message: str) -> Problem:
    """Where a policy's own complaint belongs: at the option that it names, else at the policy."""
    text = message.removeprefix(f"policy {name}: ").removeprefix(f"policy {name!r}: ")
    if match := re.match(r"option (\w+): (.*)", text):
        return Problem(("policy", "options", match[1]), match[2])
    if match := re.match(r"unknown option '(\w+)'(.*)", text):
        return Problem(("policy", "options", match[1]), f"unknown option{match[2]}")
    return Problem(("policy", "options" if "option" in text else "name"), text)


# ---------------------------------------------------------------- pages and other sources


def _server(settings: Settings) -> Iterator[Problem]:
    block = settings.server
    if block.key_file is not None and block.cert_file is None:
        yield Problem(("server", "key_file"), "a key without a certificate; allowed: cert_file beside it")
    if block.read_token_file is None:
        words = "without read_token_file everybody reads everything; allowed: with read_token_file"
        if block.plan_token_files:
            yield Problem(("server", "plan_token_files"), words)
        if block.open_metrics:
            yield Problem(("server", "open_metrics"), words)


def _sources(settings: Settings) -> Iterator[Problem]:
    """What each source says of its own settings."""
    for key, block in settings.sources().items():
        for name, text in block.check(settings.leader_election.enabled):
            yield Problem((key, name), text)

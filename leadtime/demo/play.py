"""The demo from beginning to end: Ray, engines, one pass under leadtime, the comparison, the summary.

Everything that was started is ended when `play` returns or is cancelled, whatever happens in between. Not for what
things look like (screens, view) or what they mean (watch, summary).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from autoscaler.runtime.loop import Runtime
from autoscaler.settings import load_config
from autoscaler.settings.model import Config
from leadtime.demo import baseline, summary
from leadtime.demo.local_ray import DemoError, LocalRay, Serve, free_ports, local_ray
from leadtime.demo.nodes import Nodes
from leadtime.demo.report import (
    LEADTIME_FOLDER,
    NOT_AHEAD_FOLDER,
    SCENARIO_FOLDER,
    WATCHING_FOLDER,
    moments_of_the_late,
    report,
)
from leadtime.demo.screens import Screen, Step
from leadtime.demo.spec import APP, Spec, application, settings
from leadtime.demo.traffic import Request, arrivals, counted, history, usual_day
from leadtime.demo.users import Served, Users, merged, write_requests
from leadtime.demo.watch import Texts, Watch, key_of

T = TypeVar("T")
Build = Callable[[Config], Runtime]
"""Makes a runtime from settings, as `leadtime run` does."""
PROFILE = Path(__file__).with_name("engine.yaml")
_READY_LIMIT_S = 150.0
_LOOK_AROUND_S = 1.5
"""The controller begins so long before the traffic: time for a first look, not for a head start."""
_LOOK_EVERY_S = 0.25
_MIX_REQUESTS = 100
"""Requests of the days before that the controller's token mix begins with: today's soon outweigh them."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass left."""

    served: Sequence[Served]
    watch: Watch
    replica_seconds: float


@dataclass(slots=True)
class Demo:
    """One demo. `folder` takes settings, journals and the scenario, and stays."""

    spec: Spec
    build: Build
    screen: Screen
    folder: Path
    steps: list[Step] = field(default_factory=list)
    today: dict[str, Sequence[Request]] = field(default_factory=dict)
    before: dict[str, Sequence[Request]] = field(default_factory=dict)
    most_memory_bytes: int = 0
    first_start_s: float | None = None
    """From the application's deployment until every deployment had its first replica."""

    def __post_init__(self) -> None:
        spec = self.spec
        for demand in spec.demands:
            self.today[demand.deployment] = arrivals(demand, spec.seed, spec.day_s, spec.seconds)
            self.before[demand.deployment] = history(demand, spec.seed, spec.day_s, spec.history_days)
        low, high = spec.start_s
        self.steps = [
            Step(f"a local Ray of its own: own ports, own folder, {_of(spec.nodes)}"),
            Step(f"two deployments of emulated vLLM engines (a cold start takes {low:g} to {high:g} s)"),
            Step(f"{spec.seconds:g} s of traffic; leadtime decides, for real"),
            Step(f"the same traffic under Serve's own autoscaler, {_HOW[spec.baseline]}"),
        ]

    async def play(self) -> list[summary.Outcome]:
        """All passes; their outcomes, leadtime's first. Errors: DemoError."""
        outcomes: list[summary.Outcome] = []
        async with self._local_ray() as ray, Serve(ray) as serve:
            with self._step(1):
                await self._showing_steps(self._deploy(ray, serve, act=True))
            with self._step(2):
                ours = await self._pass(ray, act=True)
            outcomes.append(self._outcome(summary.LEADTIME, ours))
            if self.spec.baseline == "live":
                with self._step(3):
                    await self._showing_steps(self._hand_over(ray, serve))
                    theirs = await self._pass(ray, act=False)
                outcomes.append(self._outcome(summary.SERVE, theirs))
        if self.spec.baseline == "simulated":
            with self._step(3):
                outcomes += await self._showing_steps(self._simulate())
        self.screen.close()
        late = moments_of_the_late(self.spec, ours.watch, ours.served)
        told = report(
            self.spec, outcomes, late, self.folder, self.most_memory_bytes, ours.watch.nodes, self.first_start_s
        )
        self.screen.say(told)
        return outcomes

    # ------------------------------------------------------------ steps

    @contextlib.contextmanager
    def _step(self, number: int) -> Iterator[None]:
        step = self.steps[number]
        step.began_s = time.monotonic()
        yield
        step.took_s = time.monotonic() - step.began_s
        self.screen.steps(self.steps, time.monotonic())

    async def _showing_steps(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it while the list of steps is shown."""
        task = asyncio.create_task(work)
        try:
            while not task.done():
                self.screen.steps(self.steps, time.monotonic())
                await asyncio.wait({task}, timeout=_LOOK_EVERY_S)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        return task.result()

    @contextlib.asynccontextmanager
    async def _local_ray(self) -> AsyncIterator[LocalRay]:
        async with contextlib.AsyncExitStack() as stack:
            with self._step(0):
                ray = await self._showing_steps(stack.enter_async_context(self._started()))
            yield ray

    def _started(self) -> contextlib.AbstractAsyncContextManager[LocalRay]:
        if self.spec.nodes is None:
            return local_ray(self.spec.gpus)
        return local_ray(0, nodes=self.spec.nodes)

    async def _deploy(self, ray: LocalRay, serve: Serve, act: bool) -> None:
        began_s = time.monotonic()
        await serve.deploy(application(self.spec, act))
        await self._until_ready(serve)
        self.first_start_s = time.monotonic() - began_s
        await self._warm_up(ray, serve, act)

    async def _until_ready(self, serve: Serve) -> None:
        """Every deployment has exactly one replica, RUNNING."""
        deadline = time.monotonic() + _READY_LIMIT_S + self.spec.start_s[1]
        while time.monotonic() < deadline:
            app = await serve.application(APP)
            if app.get("status") == "DEPLOY_FAILED":
                raise DemoError(f"leadtime demo: the application does not start: {_why(app)}")
            found = app.get("deployments", {})
            wanted = [demand.deployment for demand in self.spec.demands]
            if app.get("status") == "RUNNING" and all(_single(found.get(name, {})) for name in wanted):
                return
            await asyncio.sleep(_LOOK_EVERY_S)
        raise DemoError("leadtime demo: the engines were not ready in time; is this machine very busy?")

    async def _warm_up(self, ray: LocalRay, serve: Serve, act: bool) -> None:
        """Everything is used once before the clock starts: first uses are slow, and are nobody's fault."""
        users = Users(ray.http, model_of=lambda deployment: deployment)
        typical = [(demand, demand.tokens.typical) for demand in self.spec.demands]
        for _ in range(2):
            await users.play(typical, time.monotonic(), patience_s=30.0)
        if act:
            for demand in self.spec.demands:
                await serve.scale(APP, demand.deployment, 1)

    async def _hand_over(self, ray: LocalRay, serve: Serve) -> None:
        """Back to one replica each, then to Serve's own autoscaler."""
        for demand in self.spec.demands:
            await serve.scale(APP, demand.deployment, 1)
        await self._until_ready(serve)
        await self._deploy(ray, serve, act=False)

    # ------------------------------------------------------------ a pass

    async def _pass(self, ray: LocalRay, act: bool) -> Pass:
        """Traffic, controller and screen together; with `act` False the controller only watches (a dry run)."""
        spec = self.spec
        port = next(iter(free_ports(1)))
        runtime = self._runtime(ray, port, act)
        begin_s = self._seed(runtime)
        await self._showing_steps(asyncio.sleep(begin_s - _LOOK_AROUND_S - time.time()))
        texts = self._texts(f"http://127.0.0.1:{port}", act)
        self._note_begin(begin_s, act)
        columns = self.screen.columns
        usual = {n: usual_day(r, spec.day_s, spec.history_days, columns) for n, r in self.before.items()}
        watch = Watch(spec, begin_s, act, usual)
        users = Users(ray.http, model_of=lambda deployment: deployment)
        requests = merged((d, tuple(self.today[d.deployment])) for d in spec.demands)
        begin = time.monotonic() + begin_s - time.time()
        try:
            async with asyncio.TaskGroup() as group:
                deciding = group.create_task(runtime.run())
                traffic = group.create_task(users.play(requests, begin, spec.patience_s))
                showing = group.create_task(self._show(runtime, watch, users, texts))
                while not traffic.done() or time.monotonic() < begin + spec.seconds:
                    await asyncio.sleep(_LOOK_EVERY_S)
                    if deciding.done():
                        raise DemoError(f"leadtime demo: the controller ended; see {self.folder / 'demo.log'}")
                self.most_memory_bytes = max(self.most_memory_bytes, ray.memory_bytes())
                runtime.stop()
                showing.cancel()
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        self.screen.end_pass()
        write_requests(self.folder / f"requests-{'leadtime' if act else 'serve'}.csv", users.served)
        held = sum(watch.replica_seconds(0.0, spec.seconds).values())
        return Pass(users.served, watch, held)

    def _runtime(self, ray: LocalRay, port: int, act: bool) -> Runtime:
        folder = self.folder / (LEADTIME_FOLDER if act else WATCHING_FOLDER)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "leadtime.yaml"
        text = settings(self.spec, ray.dashboard, folder, port, act, PROFILE, ray.token_file)
        path.write_text(text, encoding="utf-8")
        return self.build(load_config(path))

    def _seed(self, runtime: Runtime) -> float:
        """Show the controller the days before (rates, and how long requests were); the wall time at which today begins.

        It begins on a bin's edge, so that no bin mixes then and now.
        """
        spec = self.spec
        begin_s = math.ceil((time.time() + _LOOK_AROUND_S) / spec.bin_s) * spec.bin_s
        for demand in spec.demands:
            requests = self.before[demand.deployment]
            ends, rates = counted(requests, -spec.history_days * spec.day_s, 0.0, spec.bin_s)
            key = key_of(demand.deployment)
            runtime.controller.seed_history(key, [begin_s + end for end in ends], rates)
            runtime.controller.state.memory(key.full).demand.mix_sums = _mix_sums(requests[-_MIX_REQUESTS:])
        return begin_s

    def _note_begin(self, begin_s: float, act: bool) -> None:
        """When traffic began: what relates the journal's clock to the requests'."""
        spec = self.spec
        note = {"begin_s": begin_s, "seconds": spec.seconds, "day_s": spec.day_s, "seed": spec.seed}
        path = self.folder / (LEADTIME_FOLDER if act else WATCHING_FOLDER) / "pass.json"
        path.write_text(json.dumps(note) + "\n", encoding="utf-8")

    async def _show(self, runtime: Runtime, watch: Watch, users: Users, texts: Texts) -> None:
        """A scene at each tick."""
        telemetry = runtime.telemetry
        while True:
            changed = telemetry.changed
            fresh = watch.take(telemetry)
            self.screen.scene(watch.scene(telemetry, users.served, time.time(), self.screen.columns, texts), fresh)
            await changed.wait()

    def _texts(self, page: str, act: bool) -> Texts:
        spec = self.spec
        days = f"One day of traffic takes {spec.day_s:g} s; the controller was shown {spec.history_days} such days."
        real = "Ray, the controller (a tick a second) and cold starts run in real seconds."
        legend = "█ seen  · as usual  ░ forecast up to p90  ─ what replicas carry  ╌ with those that are starting"
        if act:
            return Texts("leadtime scales a real local Ray Serve", page, (f"{days} {real}", legend))
        other = "Serve's own autoscaler scales, with its defaults; leadtime only watches (dry run)."
        return Texts("the same traffic, Serve's default autoscaler", "", (other, legend))

    # ------------------------------------------------------------ the comparison

    async def _simulate(self) -> list[summary.Outcome]:
        runs = [(summary.LEADTIME, "predictive", True), (summary.SERVE, "ray_serve", True)]
        if self.spec.nodes is not None:
            runs.insert(1, (summary.NOT_AHEAD, "predictive", False))
        found = []
        for who, policy, ahead in runs:
            place = self.folder / (SCENARIO_FOLDER if ahead else NOT_AHEAD_FOLDER)
            scenario = baseline.write_scenario(self.spec, place, PROFILE, self.before, self.today, ahead)
            ran = await baseline.simulate(scenario, policy)
            found.append(self._figures(who, "simulated", ran.served, ran.replica_seconds))
        return found

    def _outcome(self, who: str, done: Pass) -> summary.Outcome:
        return self._figures(who, "live", done.served, done.replica_seconds)

    def _figures(self, who: str, how: str, served: Sequence[Served], held: float) -> summary.Outcome:
        return summary.outcome(who, how, served, held, self.spec.ttft_s)


def _of(nodes: Nodes | None) -> str:
    """What there is of nodes, at the end of a step's words."""
    if nodes is None:
        return "loopback only"
    what = f"up to {nodes.most} nodes of {nodes.gpus_per_node} GPUs that are only a number"
    return f"own token; its autoscaler makes {what}, in {nodes.provision_s:g} s each"


_HOW = {"live": "for real", "simulated": "simulated"}


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong first, out of its wrapping."""
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


def _single(deployment: dict[str, Any]) -> bool:
    replicas = deployment.get("replicas", [])
    return len(replicas) == 1 and replicas[0]["state"] == "RUNNING"


def _mix_sums(requests: Sequence[Request]) -> list[float]:
    """As the controller keeps them: prompt tokens, output tokens, cached prompt tokens, requests."""
    prompt, output = sum(r.prompt_tokens for r in requests), sum(r.output_tokens for r in requests)
    return [float(prompt), float(output), 0.0, float(len(requests))]


def _why(app: Any) -> str:
    messages = [app.get("message", ""), *(d.get("message", "") for d in app.get("deployments", {}).values())]
    said = [" ".join(m.split()) for m in messages if m]
    return said[-1][-400:] if said else "Serve gives no reason"

"""A standby from the settings of the controller that it stands in for. Its purpose: autoscaler/runtime/standby.py."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from autoscaler.common.errors import ConfigError
from autoscaler.wiring.cluster import cluster_parts
from autoscaler.wiring.ports import ports

if TYPE_CHECKING:
    from autoscaler.runtime.clock import Clock
    from autoscaler.runtime.loop import Runtime
    from autoscaler.runtime.store import StateStore
    from autoscaler.settings.model import Config
    from leadtime_serve_policy import PlanReader

LEASE_SUFFIX = "-standby"

log = logging.getLogger("leadtime")


@dataclass(frozen=True, slots=True)
class StandbySettings:
    """Where the controller publishes its plan, and for how long it must be silent before the standby acts."""

    plan: str
    """http(s)://HOST:PORT of the controller."""
    after_s: float
    port: int
    """Of the standby's own pages."""
    token_file: Path | None = None
    ca_file: Path | None = None
    state: Path | None = None
    """File of the standby's own memory of what is paused; None: beside the controller's state file."""


def build_standby(config: Config, standby: StandbySettings, clock: Clock | None = None) -> Runtime:
    """A Runtime that acts only where the controller is silent, with a lease of its own, without a journal.

    It remembers what is paused alone: the cluster's switch as it was last read, and what the controller last said.

    It reads the same services, obeys the same limits, budget, dry run and kill switch, and lowers nothing. It neither
    pre-warms nor talks MQTT nor asks Prometheus for history. Errors: ConfigError (also for a wrong URL or file);
    StateError when its own file cannot be used.
    """
    from autoscaler.api.server import Server
    from autoscaler.api.telemetry import new_telemetry
    from autoscaler.core.build import new_controller
    from autoscaler.core.pause import PauseSwitch
    from autoscaler.runtime.loop import Runtime
    from autoscaler.runtime.standby import ControllerWatch
    from autoscaler.runtime.store import StateStore
    from policies.standby import StandbyPolicy

    own = _without_extras(config)
    reader = _reader(standby)
    store = StateStore(standby.state or own_state_path(config.state_path))
    try:
        watch = ControllerWatch(reader, standby.after_s, time.monotonic, store)
        controller = new_controller(own.controller, None, StandbyPolicy(watch.released))
        telemetry = new_telemetry(own.controller)
        telemetry.stands_in_for = lambda: watch.stands_in_for
        cluster = cluster_parts(own, telemetry, elect=True, lease_suffix=LEASE_SUFFIX, memory=store)
        met = ports(own, cluster, telemetry)
        pause = PauseSwitch(store)
        pause.cluster = cluster.switch if cluster else None
        pages = own.server
        server = Server(
            telemetry, pause, pages.host, standby.port, pages.token_file if cluster else None,
            readers=pages.readers, cert_file=pages.cert_file, key_file=pages.key_file, limits=pages.limits,
        )  # fmt: skip
        runtime = Runtime(
            own.controller,
            controller,
            met.sources,
            met.actuators,
            server=server,
            telemetry=telemetry,
            pause=pause,
            leader=cluster.leader if cluster else lambda: True,
            clock=clock,
            background=(*(cluster.background if cluster else ()), lambda: _kept_open(store)),
            settings=cluster.deployment_settings if cluster else tuple,
        )
    except BaseException:
        store.close()
        raise
    reader.start()
    return runtime


async def _kept_open(store: StateStore) -> None:
    """Close it when the work beside the ticks is cancelled; the runtime has no store, so it saves no state."""
    if store.notice:
        log.warning("%s", store.notice)
    try:
        await asyncio.Event().wait()
    finally:
        store.close()


def own_state_path(controllers: Path) -> Path:
    """The standby's own file, beside the controller's, which has one writer."""
    return controllers.with_name(f"{controllers.stem}{LEASE_SUFFIX}{controllers.suffix}")


def _without_extras(config: Config) -> Config:
    """The same services and limits; no step down, and nothing that would meddle with what the controller holds."""
    guards = replace(config.controller.guards, max_step_down=0)
    core = replace(
        config.controller,
        guards=guards,
        policy_name="standby",
        policy_options={},
        pools=tuple(replace(pool, prewarm="none") for pool in config.controller.pools),
    )
    return replace(config, controller=core, sources={}, prewarm=())


def _reader(standby: StandbySettings) -> PlanReader:
    """Errors: ConfigError; also for a file that cannot be read, which later would look like a silent controller."""
    from autoscaler.common.secret_files import problem, read_secret
    from leadtime_serve_policy import PlanReader, settings_of

    kwargs = {"plan": standby.plan}
    for name, file in (("token_file", standby.token_file), ("ca_file", standby.ca_file)):
        if file is not None:
            kwargs[name] = str(file.absolute())
    settings, problems = settings_of(kwargs)
    if problems:
        raise ConfigError("; ".join(problem.removeprefix("policy_kwargs.") for problem in problems))
    if standby.token_file is not None:
        read_secret(standby.token_file)
    if standby.ca_file is not None:
        try:
            ssl.create_default_context(cafile=standby.ca_file)
        except OSError as error:
            raise ConfigError(f"ca_file {standby.ca_file}: {problem(error)}; allowed: a PEM file") from None
    return PlanReader(settings)

"""Everything of a running controller from its settings. Not for the loop itself (autoscaler.runtime)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from autoscaler.common.errors import StateError
from autoscaler.wiring.cluster import cluster_parts
from autoscaler.wiring.ports import ports

if TYPE_CHECKING:
    from autoscaler.core.audit import Audit
    from autoscaler.runtime.clock import Clock
    from autoscaler.runtime.loop import Runtime
    from autoscaler.runtime.store import StateStore
    from autoscaler.settings.model import Config
    from autoscaler.wiring.kubernetes import KubernetesParts


def build(config: Config, clock: Clock | None = None, serve_pages: bool = True, elect: bool = True) -> Runtime:
    """Everything of a running controller. `elect` False: it does not stand for election, and where others do, it
    writes nothing. Errors: LeadtimeError (a state file in use, say); PolicyError."""
    from autoscaler.api.server import Server
    from autoscaler.api.telemetry import new_telemetry
    from autoscaler.core.audit import Audit
    from autoscaler.core.pause import PauseSwitch
    from autoscaler.runtime.journal_file import JournalWriter
    from autoscaler.runtime.journal_stream import JournalStream
    from autoscaler.runtime.loop import Runtime
    from autoscaler.runtime.restore import restored_controller
    from autoscaler.runtime.store import StateStore

    store = StateStore(config.state_path)
    try:
        controller = restored_controller(config.controller, store)
        telemetry, pause = new_telemetry(config.controller), PauseSwitch(store)
        audit = pause.audit = Audit(time.time)
        _note_settings(config, store, audit)
        cluster = cluster_parts(config, telemetry, elect, memory=store, audit=audit)
        pause.cluster = cluster.switch if cluster else None
        leader = _leader(config, cluster, elect)
        met = ports(config, cluster, telemetry, leader)
        pages = config.server
        server = Server(
            telemetry, pause, pages.host, pages.port, pages.token_file,
            readers=pages.readers, cert_file=pages.cert_file, key_file=pages.key_file, limits=pages.limits,
        )  # fmt: skip
        return Runtime(
            config.controller,
            controller,
            met.sources,
            met.actuators,
            store=store,
            journal_writer=JournalWriter(config.journal_path, config.journal_max_bytes, config.journal_max_age_s),
            journal_stream=JournalStream(sys.stdout.buffer) if config.journal_stdout and serve_pages else None,
            audit=audit,
            server=server if serve_pages else None,
            telemetry=telemetry,
            pause=pause,
            leader=leader,
            history=met.history,
            clock=clock,
            background=cluster.background if cluster else (),
            settings=cluster.deployment_settings if cluster else tuple,
        )
    except BaseException:
        store.close()
        raise


def _note_settings(config: Config, store: StateStore, audit: Audit) -> None:
    """Settings that differ from those of the last start; who wrote the file, its place has to tell."""
    now = config.controller.sha256
    try:
        before = store.settings_since(now)
    except StateError as error:
        audit.note("settings", str(config.path), {"unsaved": str(error)}, None, {"sha256": now})
        return
    if before != now:
        known = None if before is None else {"sha256": before}
        audit.note("settings", str(config.path), {}, known, {"sha256": now})


def _leader(config: Config, cluster: KubernetesParts | None, elect: bool) -> Callable[[], bool]:
    if config.election is not None and not elect:
        return lambda: False
    return cluster.leader if cluster else lambda: True

"""The shell around the controller: every tick it reads all sources, lets the controller decide, applies the plan,
writes the journal and publishes what it did. The only place that knows sources, controller and actuators together.

It takes plain objects and builds none of them. Nothing that fails out there stops the loop.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from autoscaler.api.server import Server
from autoscaler.api.telemetry import Telemetry, new_telemetry
from autoscaler.common.errors import PolicyFault, StateError
from autoscaler.common.redaction import blank, blank_json
from autoscaler.core import conditions, journal
from autoscaler.core.audit import Audit
from autoscaler.core.checkpoint import SAVE_EVERY_S, row_names, to_rows, unreadable
from autoscaler.core.controller import Controller
from autoscaler.core.pause import PauseSwitch
from autoscaler.core.ports import Actuator, Source
from autoscaler.core.types import Applied, ControllerConfig, DeploymentSettings, Outcome, Plan, Signals
from autoscaler.runtime.assembly import assemble
from autoscaler.runtime.clock import Clock, SteadyTime, SystemClock
from autoscaler.runtime.history import HistoryAtStart
from autoscaler.runtime.journal_file import JournalWriter
from autoscaler.runtime.journal_stream import JournalStream
from autoscaler.runtime.messages import TickLog
from autoscaler.runtime.polling import Polling
from autoscaler.runtime.refits import Refits
from autoscaler.runtime.store import StateStore
from policies.base import PolicyError

log = logging.getLogger("leadtime")


_AUDITS_KEPT = 1000
"""Records for a journal that cannot be written."""
_GIVE_BACK_WITHIN_S = 6.0
"""Of one actuator, at the end."""


class Runtime:
    """`run` until `stop`. `server`, `store` and `journal_writer` may be absent (None)."""

    def __init__(
        self,
        config: ControllerConfig,
        controller: Controller,
        sources: Sequence[Source],
        actuators: Sequence[Actuator],
        store: StateStore | None = None,
        journal_writer: JournalWriter | None = None,
        server: Server | None = None,
        telemetry: Telemetry | None = None,
        pause: PauseSwitch | None = None,
        leader: Callable[[], bool] = lambda: True,
        history: HistoryAtStart | None = None,
        clock: Clock | None = None,
        background: Sequence[Callable[[], Awaitable[None]]] = (),
        settings: Callable[[], tuple[DeploymentSettings, ...]] = tuple,
        audit: Audit | None = None,
        journal_stream: JournalStream | None = None,
    ) -> None:
        """`background` runs beside the ticks, from start to end (a leader election, say).

        What `audit` noted goes into the journal; `journal_stream` gets every record of it, too.

        `settings` gives, at each tick, the entries that annotations make.
        """
        self.config = config
        self.controller = controller
        self.telemetry = telemetry or new_telemetry(config)
        self.pause = pause or PauseSwitch(store)
        self._sources = tuple(sources)
        self._actuators = tuple(actuators)
        self._store = store
        self._journal = journal_writer
        self._audit = audit
        self._unwritten: list[bytes] = []
        """Audit records that no file has taken yet."""
        self._stream = journal_stream
        self._server = server
        self._leader = leader
        self._settings = settings
        self._history = history
        self._refits = Refits()
        self._clock: Clock = clock or SystemClock()
        tick_s = config.tick_s
        self._polling = Polling(
            sources, wait_s=min(2.0, 0.4 * tick_s), slow_s=max(5.0, tick_s), give_up_s=max(30.0, 3 * tick_s),
            monotonic_s=self._clock.monotonic_s,
        )  # fmt: skip
        self._apply_within_s = max(1.0, 0.9 * tick_s)
        self._background = tuple(background)
        self._tasks: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()
        self._time = SteadyTime(self._clock)
        self._save_parts = max(1, round(SAVE_EVERY_S / tick_s))
        self._saved = False
        self._log = TickLog()

    # ------------------------------------------------------------ the loop

    async def run(self) -> None:
        """Tick on a fixed grid until stopped, then save and close everything. Errors: ConfigError of the server."""
        for notice in (self._store.notice if self._store else "", self.pause.notice):
            if notice:
                log.warning("%s", notice)
        try:
            if self._server is not None:
                await self._server.start()
                log.info("pages on %s://%s:%s", self._server.scheme, self._server.host, self._server.port)
            self._tasks = [asyncio.create_task(self._beside(work)) for work in self._background]
            await self._loop()
        finally:
            await self._close()

    def stop(self) -> None:
        """Let the tick that is under way finish, then end."""
        self._stop.set()

    async def run_until_signalled(self) -> None:
        """`run`, ended by SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            await self.run()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def _loop(self) -> None:
        tick_s, started_s = self.config.tick_s, self._clock.monotonic_s()
        number = 0
        while not self._stop.is_set():
            await self._guarded_tick()
            passed = math.floor((self._clock.monotonic_s() - started_s) / tick_s + 1e-9)
            missed = max(0, passed - number)  # ticks whose time has come and gone are skipped, not made up for
            self.telemetry.missed_ticks += missed
            words = f"a tick took longer than {tick_s:g} s: {missed} skipped" if missed else ""
            self._log.say("missed ticks", words, logging.WARNING)
            number = max(number, passed) + 1
            self.telemetry.sign_of_life(self._clock.monotonic_s())
            await self._clock.wait(self._stop, started_s + number * tick_s)

    async def _guarded_tick(self) -> None:
        """A tick that fails outside of the decision has a bug: it is told, and the next one comes."""
        try:
            await self.tick()
        except Exception as error:
            words = f"a tick failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            if self._log.last.get("tick") != words:
                log.exception("%s", words)
            self._log.last["tick"] = words
            self.telemetry.report(conditions.DECISION_FAILED, words)
        else:
            self._log.last.pop("tick", None)

    async def tick(self) -> Plan | None:
        """One round; None when the decision failed, in which case nothing is applied."""
        self.telemetry.sign_of_life(self._clock.monotonic_s())
        now_s, set_back = self._time.read()
        words = "the clock was set back: time goes on a tenth slower here until it has caught up" if set_back else ""
        self._log.say("clock", words, logging.WARNING)
        leading = self._leader()  # asked before reading: who has just begun to lead reads again before it writes
        pulls = self.pause.pulls
        held = await self._polling.round(now_s)
        signals = assemble(held, self.pause.state, leading and self._leader(), now_s, self.telemetry.applied)
        signals = replace(signals, settings=self._settings())
        self.controller.take_settings(signals.settings)
        self.telemetry.config = self.controller.config
        self._log.sources(signals)
        if self._history is not None:
            if await self._history.seed(self.controller, signals, now_s) and self._journal is not None:
                self._journal.close()  # what history taught is no part of a tick: the next file begins with it
            self.telemetry.sign_of_life(self._clock.monotonic_s())
        checkpoint = await self._checkpoint()
        started_s = self._clock.monotonic_s()
        plan = self._decide(signals, now_s)
        step_s = self._clock.monotonic_s() - started_s
        if plan is None:
            self.telemetry.take_conditions(None, now_s)
            self._log.conditions(self.telemetry.conditions)
            return None
        # who pulled the switch meanwhile was told that nothing changes any more
        outcomes = await self._apply(plan, now_s) if self.pause.pulls == pulls else []
        self.telemetry.take_conditions(plan, now_s)
        self.telemetry.publish(signals, plan, outcomes, step_s)
        self._log.decisions(plan, self.telemetry.applied)
        self._log.outages(self.telemetry.outages, plan.now_s)
        self._log.conditions(self.telemetry.conditions)
        self._write_journal(checkpoint, signals, plan, outcomes, step_s)
        self._refits.start(self.controller.state.forecasters.values())
        await self._save()
        return plan

    def _decide(self, signals: Signals, now_s: float) -> Plan | None:
        try:
            plan = self.controller.step(signals, now_s)
        except Exception as error:
            self.telemetry.failed_steps += 1
            own = isinstance(error, PolicyFault | PolicyError)  # no traceback of ours, and said once, whatever it says
            kind = "policy" if own else f"{type(error).__name__}: {error}"
            if self._log.last.get("step") != kind:
                words = "the decision failed, nothing is changed until it works again: %s"
                log.error(words, error if own else kind, exc_info=not own)
                if own:
                    log.debug("where the policy failed", exc_info=True)
            self._log.last["step"] = kind
            self.telemetry.report(conditions.DECISION_FAILED, "no decision could be made: the log says why")
            if self._journal is not None:
                self._journal.close()  # the state may be half-changed: the next file begins with it as it is
            return None
        self._log.last.pop("step", None)
        self.telemetry.report(conditions.DECISION_FAILED, "")
        return plan

    # ------------------------------------------------------------ acting

    async def _apply(self, plan: Plan, now_s: float) -> list[Outcome]:
        """All actuators at once; one that raises or hangs has a bug, which becomes an outcome."""
        return list(await asyncio.gather(*(self._apply_one(actuator, plan, now_s) for actuator in self._actuators)))

    async def _apply_one(self, actuator: Actuator, plan: Plan, now_s: float) -> Outcome:
        try:
            return _without_secrets(await asyncio.wait_for(actuator.apply(plan, now_s), self._apply_within_s))
        except TimeoutError:
            outcome, why = "unavailable", f"not done within {self._apply_within_s:g} s"
        except Exception as error:
            outcome, why = "actuatorerror", blank(f"bug in actuator {actuator.name}: {type(error).__name__}: {error}")
        what = [str(one.key) for one in plan.deployments if one.target not in (None, one.observed_target)]
        return Outcome(actuator.name, tuple(Applied(actuator.name, key, outcome, None, why) for key in what))

    # ------------------------------------------------------------ journal and state

    async def _checkpoint(self) -> bytes | None:
        """The state before the step, when a new journal file is about to begin; encoded in a thread, as in `_save`."""
        if self._journal is None or not self._journal.due:
            return None
        state, most_bytes = self.controller.state, self._journal.checkpoint_bytes
        try:
            record = await asyncio.to_thread(journal.checkpoint_record, state, self.config, most_bytes)
            line = await asyncio.to_thread(lambda: blank_json(journal.encode(record), journal.NAMES))
        except PolicyFault as error:
            self._log.say("state", str(error), logging.ERROR)
            return None
        left_out = record.get("state_left_out")
        if left_out and not self._log.last.get("checkpoint"):
            words = "journal: decisions can be explained, not replayed: the memory to replay from is %s, and may be %d"
            log.warning(f"{words} (a third of journal.max_bytes)", left_out, most_bytes)
        self._log.last["checkpoint"] = left_out or ""
        if self._stream is not None:
            self._stream.put(blank_json(journal.encode(journal.without_state(record)), journal.NAMES))
        return line

    def _write_journal(
        self, checkpoint: bytes | None, signals: Signals, plan: Plan, outcomes: Sequence[Outcome], step_s: float
    ) -> None:
        if self._journal is None:
            return
        if checkpoint is not None:
            self._journal.begin(plan.now_s, checkpoint)
        self._write_audit(self._journal)
        applied = [one for outcome in outcomes for one in outcome.applied]
        try:
            line = journal.encode(journal.tick_record(signals, plan, applied, {"step_s": step_s}))
        except (ValueError, TypeError, OverflowError) as error:  # something of others that JSON cannot hold
            problem = f"tick {plan.tick} is not in the journal: {type(error).__name__}: {error}"
            self._journal.close()  # the next file begins with the state as it is
        else:
            line = blank_json(line, journal.NAMES)
            self._journal.append(line, plan.now_s)
            problem = self._journal.problem
            if self._stream is not None:
                self._stream.put(line)
                self._log.say("journal stream", self._stream.problem, logging.WARNING)
        self._log.say("journal", problem, logging.ERROR)
        self.telemetry.report(conditions.JOURNAL_NOT_WRITTEN, problem)

    def _write_audit(self, writer: JournalWriter) -> None:
        """What was noted since the last tick, before the tick that it may explain; it waits for a file to be there."""
        for record in self._audit.take() if self._audit is not None else ():
            line = blank_json(journal.encode(record), journal.NAMES)
            self._unwritten.append(line)
            if self._stream is not None:
                self._stream.put(line)
        del self._unwritten[:-_AUDITS_KEPT]
        while self._unwritten and writer.open:
            writer.append(self._unwritten[0])
            if writer.open:
                del self._unwritten[0]

    async def _save(self, everything: bool = False) -> None:
        """Rows that changed: the small ones at each tick, the large ones in turn, all of them at the end, and at first:
        what lies there may be an older leadtime's or another policy's, and is no part of what comes in turn.

        A state that the last decision left half-changed is not worth keeping. Writing it out takes long enough to be
        done in a thread; the tick waits for it, so that nothing changes meanwhile.
        """
        if self._store is None or "step" in self._log.last:
            return
        state, store = self.controller.state, self._store
        parts = 1 if everything or not self._saved else self._save_parts

        def save() -> str:
            rows = to_rows(state, state.tick, parts)
            broken = [name for name in store.changed(rows) if unreadable(name, rows[name])]
            for name in broken:  # what was saved of it before stays: a state that cannot be read is worth nothing
                del rows[name]
            store.save_controller(rows, row_names(state))
            return f"not saved, since it could not be read back: {', '.join(broken[:3])}" if broken else ""

        try:
            problem = await asyncio.to_thread(save)
            self._saved = True
        except (StateError, PolicyFault) as error:
            problem = str(error)
        except Exception as error:
            problem = f"the state could not be written out: {type(error).__name__}: {error}"
        self._log.say("state", problem, logging.ERROR)
        self.telemetry.report(conditions.STATE_NOT_SAVED, problem)

    async def _beside(self, work: Callable[[], Awaitable[None]]) -> None:
        """Work beside the ticks; one that fails has a bug, which is logged and stops nobody else."""
        try:
            await work()
        except Exception as error:
            log.exception("background work ended: %s: %s", type(error).__name__, error)

    async def _give_back(self) -> None:
        """What pre-warming holds, while the lease is still ours: nobody looks after it from here on."""
        plan = self.telemetry.plan
        if plan is None or plan.dry_run or not plan.leader or not self._leader():
            return
        for actuator in self._actuators:
            try:
                outcome = await asyncio.wait_for(actuator.release(self._time.last_s), _GIVE_BACK_WITHIN_S)
            except Exception as error:
                log.warning("%s: giving back what it holds: %s: %s", actuator.name, type(error).__name__, error)
                continue
            for one in outcome.applied:
                level = logging.WARNING if one in outcome.failed else logging.INFO
                log.log(level, "%s %s: %s", one.actuator, one.what, one.why or one.outcome)

    async def _close(self) -> None:
        await self._give_back()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._refits.close()
        if self._history is not None:
            await self._history.close()
        await self._save(everything=True)
        await self._polling.close()
        ports: tuple[Source | Actuator, ...] = (*self._sources, *self._actuators)
        for port in ports:
            try:
                await port.close()
            except Exception as error:
                log.warning("closing %s: %s: %s", port.name, type(error).__name__, error)
        if self._server is not None:
            await self._server.stop()
        if self._journal is not None:
            self._write_audit(self._journal)
            self._journal.close()
        if self._stream is not None:
            self._stream.close()
        if self._store is not None:
            self._store.close()


def _without_secrets(outcome: Outcome) -> Outcome:
    """Another program's words may repeat what it was sent."""
    said = [blank(one.why) for one in outcome.applied]
    if all(words == one.why for words, one in zip(said, outcome.applied, strict=True)):
        return outcome
    applied = (replace(one, why=words) for words, one in zip(said, outcome.applied, strict=True))
    return replace(outcome, applied=tuple(applied))

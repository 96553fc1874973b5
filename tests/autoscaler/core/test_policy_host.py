"""Anybody's policy may be wrong in any way: one clear line that names it and the value, and nothing else happens."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.common.errors import PolicyFault
from autoscaler.core.build import new_controller
from autoscaler.core.policy_host import WrongProposalError, checked, evaluate, fresh_state
from autoscaler.runtime.journal_file import JournalWriter, read_journal
from autoscaler.runtime.loop import Runtime
from autoscaler.runtime.store import StateStore
from policies.base import (
    DeploymentKey,
    FleetProposal,
    FleetView,
    PolicyError,
    PoolProposal,
    PoolView,
    ReplicaProposal,
    Term,
)
from policies.plugin import PolicyPlugin
from tests.autoscaler.build import KEY, config, inventory, metrics, signals
from tests.fakes.shell import LLM, Fleet, FleetActuator, FleetSource, JumpingClock, settings
from tests.policies.build import fleet, view

FLEET = fleet(pools=(PoolView("h100", 8),))


class Mine(PolicyPlugin):
    """Says what it is told to say, or raises it."""

    name = "mine"

    def __init__(self, says: Any, remembers: Callable[[], Any] = lambda: None) -> None:
        super().__init__()
        self.says, self.remembers = says, remembers

    def new_state(self) -> Any:
        return self.remembers()

    def propose(self, fleet: FleetView, state: Any, now_s: float) -> Any:
        if isinstance(self.says, BaseException):
            raise self.says
        return self.says(fleet) if callable(self.says) else self.says


def replicas(count: Any, terms: Any = ()) -> Any:
    return FleetProposal({KEY: ReplicaProposal(count, terms)})


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (None, "propose(): returned None; allowed: a FleetProposal"),
        (3, "propose(): returned 3; allowed: a FleetProposal"),
        ({KEY: 3}, "(dict); allowed: a FleetProposal"),
        (FleetProposal(None), "propose(): replicas: None; allowed: a mapping of DeploymentKey to proposals"),  # type: ignore[arg-type]
        (FleetProposal({KEY: 3}), "propose(): replicas: chat/llm: 3; allowed: a ReplicaProposal"),  # type: ignore[dict-item]
        (FleetProposal({KEY: None}), "propose(): replicas: chat/llm: None; allowed: a ReplicaProposal"),  # type: ignore[dict-item]
        (replicas(-1), "propose(): replicas: chat/llm: -1; allowed: a whole number >= 0"),
        (replicas(2.0), "replicas: chat/llm: 2.0 (float); allowed: a whole number"),
        (replicas(float("nan")), "replicas: chat/llm: nan (float); allowed"),
        (replicas(True), "replicas: chat/llm: True; allowed: a whole number"),
        (replicas("3"), "replicas: chat/llm: '3'; allowed: a whole number"),
        (replicas(None), "replicas: chat/llm: None; allowed: a whole number"),
        (replicas(1, "because"), "replicas: chat/llm: terms 'because'; allowed: a tuple of Term"),
        (replicas(1, ("because",)), "terms ('because',) (tuple); allowed: a tuple of Term"),
        (replicas(1, (Term("x", float("nan"), "y"),)), "terms: 'x' wants nan (float); allowed: a whole number"),  # type: ignore[arg-type]
        (replicas(1, (Term("x", 1, None),)), "chat/llm: terms: why None; allowed: text"),  # type: ignore[arg-type]
        (replicas(1, (Term(7, 1, "y"),)), "chat/llm: terms: name 7; allowed: text"),  # type: ignore[arg-type]
        (
            FleetProposal({"chat/llm": ReplicaProposal(1)}),
            "key 'chat/llm'; allowed: a DeploymentKey, as the view has it",
        ),  # type: ignore[dict-item]
        (
            FleetProposal({DeploymentKey.parse("chat/lm"): ReplicaProposal(1)}),
            "replicas: unknown key 'chat/lm'; did you mean 'chat/llm'? (allowed: chat/llm)",
        ),
        (FleetProposal({}, {"h200": PoolProposal(1)}), "pools: unknown key 'h200'; did you mean 'h100'?"),
        (FleetProposal({}, {"h100": PoolProposal(-2)}), "pools: h100: -2; allowed: a whole number >= 0"),
        (FleetProposal({}, {"h100": 2}), "pools: h100: 2; allowed: a PoolProposal"),  # type: ignore[dict-item]
        (ZeroDivisionError("division by zero"), "propose() failed at test_policy_host.py:"),
        (KeyError("chat"), "KeyError: 'chat'"),
        (RuntimeError("two\nlines"), "RuntimeError: two lines"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_policy_and_value(says: Any, words: str) -> None:
    with pytest.raises(PolicyFault) as caught:
        evaluate(Mine(says), FLEET, None, 0.0)
    assert str(caught.value).startswith("policy mine: propose()")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_its_own_word_passes_through() -> None:
    with pytest.raises(PolicyError, match="I need a schedule"):
        evaluate(Mine(PolicyError("I need a schedule")), FLEET, None, 0.0)


def test_whole_numbers_of_any_kind_become_plain_ones_and_reasons_are_never_missing() -> None:
    found = evaluate(Mine(replicas(np.int64(3), [])), FLEET, None, 0.0).replicas[KEY]
    assert type(found.replicas) is int
    assert found == ReplicaProposal(3, (Term("policy", 3, "3 wanted, no reason given"),))
    reasons = (Term(np.str_("x"), np.int32(2), np.str_("y")),)
    pools = evaluate(Mine(FleetProposal({}, {"h100": PoolProposal(np.int32(2), reasons)})), FLEET, None, 0.0)  # type: ignore[arg-type]
    assert pools.pools == {"h100": PoolProposal(2, (Term("x", 2, "y"),))}
    (term,) = pools.pools["h100"].terms
    assert {type(term.name), type(term.why)} == {str}
    assert type(term.wants) is int
    (term,) = evaluate(Mine(replicas(2, (Term("x", np.int64(2), "y"),))), FLEET, None, 0.0).replicas[KEY].terms  # type: ignore[arg-type]
    assert type(term.wants) is int


def test_an_attribute_that_may_not_be_set_is_told_with_the_policys_own_line() -> None:
    def says(seen: FleetView) -> Any:
        seen.deployments[0].rate_rps = 1.0  # type: ignore[misc]

    with pytest.raises(PolicyFault, match=r"failed at test_policy_host\.py:\d+: FrozenInstanceError"):
        evaluate(Mine(says), fleet(view()), None, 0.0)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=5) | st.just(KEY),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.just(KEY), inner, max_size=3)
        | st.builds(Term, inner, inner, inner)
        | st.builds(ReplicaProposal, inner, inner)
        | st.builds(FleetProposal, inner, inner)
    ),
    max_leaves=8,
)


@given(anything)
def test_any_value_is_a_proposal_or_one_line_against_it(value: Any) -> None:
    found, against = None, ""
    try:
        found = checked(value, FLEET)
    except WrongProposalError as error:
        against = str(error)
    assert "\n" not in against
    assert (found is None) == (0 < len(against) < 400)
    if found is not None:
        assert all(type(p.replicas) is int and p.replicas >= 0 and p.terms for p in found.replicas.values())


# ---------------------------------------------------------------- its memory


@dataclass
class Notes:
    seen: list[Any] = field(default_factory=list)


def test_a_memory_that_cannot_be_saved_is_refused_before_it_is_used() -> None:
    with pytest.raises(
        PolicyFault, match=r"policy mine: its state cannot be saved: .*allowed: a dataclass of plain data"
    ):
        fresh_state(Mine(None, lambda: Notes([object()])))
    with pytest.raises(PolicyFault, match=r"policy mine: new_state\(\) failed at .*: RuntimeError: no"):
        fresh_state(Mine(None, lambda: (_ for _ in ()).throw(RuntimeError("no"))))
    assert fresh_state(Mine(None)) is None
    assert fresh_state(Mine(None, Notes)) == Notes()


def test_a_memory_that_is_spoilt_later_is_named_when_it_is_to_be_saved() -> None:
    policy = Mine(replicas(1), Notes)
    controller = new_controller(config(), None, policy)
    assert controller.state.to_bytes()
    controller.state.policy_state.seen.append(object())
    with pytest.raises(PolicyFault, match="policy mine: its state cannot be saved"):
        controller.state.to_bytes()


# ---------------------------------------------------------------- the controller


def test_a_failed_decision_is_asked_again_at_the_next_tick_whatever_the_period() -> None:
    policy = Mine(replicas(-1))
    policy.period_s = 60.0
    controller = new_controller(config(), None, policy)
    for now_s in (0.0, 5.0):
        with pytest.raises(PolicyFault, match="-1"):
            controller.step(signals(inventory(now_s), metrics(now_s)), now_s)
    policy.says = replicas(2)
    assert controller.step(signals(inventory(10.0), metrics(10.0)), 10.0).deployments[0].proposed == 2
    policy.says = replicas(7)
    plan = controller.step(signals(inventory(15.0), metrics(15.0)), 15.0)
    assert plan.deployments[0].proposed == 2, "between two decisions"


def test_what_it_leaves_out_is_left_alone() -> None:
    controller = new_controller(config(), None, Mine(FleetProposal({})))
    plan = controller.step(signals(inventory(0.0), metrics(0.0)), 0.0)
    assert plan.deployments[0].target is None
    assert view().key == KEY


# ---------------------------------------------------------------- the shell around it


async def test_the_live_controller_logs_it_once_holds_and_recovers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy = Mine(lambda fleet: None)
    fleet_, clock = Fleet(), JumpingClock()
    conf = settings(tick_s=0.05)
    writer = JournalWriter(tmp_path / "journal")
    runtime = Runtime(
        conf, new_controller(conf, None, policy), [FleetSource(fleet_, "inventory"), FleetSource(fleet_, "metrics")],
        [FleetActuator(fleet_)], None, writer, clock=clock,
    )  # fmt: skip

    async def ticks(count: int) -> None:
        for _ in range(count):
            await runtime.tick()
            clock.time_s += conf.tick_s

    with caplog.at_level(logging.INFO, "leadtime"):
        await ticks(2)
        policy.says = replicas(-1)
        await ticks(2)
        policy.says = ZeroDivisionError("of its own")
        await ticks(2)
        said = [r.getMessage() for r in caplog.records if "policy mine" in r.getMessage()]
        assert said == [
            "the decision failed, nothing is changed until it works again: policy mine: propose(): returned None; "
            "allowed: a FleetProposal"
        ]
        assert all(not r.exc_info for r in caplog.records), "no traceback of somebody else's mistake"
        assert fleet_.targets == {LLM: 1}
        assert runtime.telemetry.failed_steps == 6
        policy.says = lambda view: FleetProposal({d.key: ReplicaProposal(3) for d in view.deployments})
        await ticks(1)
    assert fleet_.targets == {LLM: 3}
    await runtime._close()


async def test_a_spoilt_memory_ends_neither_the_loop_nor_the_journal_for_good(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy = Mine(lambda view: FleetProposal({d.key: ReplicaProposal(3) for d in view.deployments}), Notes)
    fleet_, clock, conf = Fleet(), JumpingClock(), settings(tick_s=0.05)
    store = StateStore(tmp_path / "state.sqlite")
    controller = new_controller(conf, None, policy)
    runtime = Runtime(
        conf, controller, [FleetSource(fleet_, "inventory"), FleetSource(fleet_, "metrics")], [FleetActuator(fleet_)],
        store, JournalWriter(tmp_path / "journal"), clock=clock,
    )  # fmt: skip
    controller.state.policy_state.seen.append(object())
    await runtime.tick()
    assert fleet_.targets == {LLM: 3}
    await runtime._save()
    said = [r.getMessage() for r in caplog.records if "its state cannot be saved" in r.getMessage()]
    assert len(said) == 1
    controller.state.policy_state.seen.clear()
    clock.time_s += 1.0
    await runtime.tick()
    await runtime._close()
    assert [r.data["kind"] for r in read_journal(tmp_path / "journal")] == ["checkpoint", "tick"]

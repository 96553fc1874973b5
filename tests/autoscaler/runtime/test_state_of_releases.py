"""What a released leadtime saved is read by today's: one state file of each release, from 0.1.0 on.

    python -m tests.autoscaler.runtime.test_state_of_releases tests/samples/state-VERSION.sqlite.gz

writes the file of the version at hand; to be done once for each release, and never again for a released one.
"""

from __future__ import annotations

import gzip
import sys
import tempfile
from pathlib import Path

import pytest

from autoscaler.core.build import new_controller
from autoscaler.core.checkpoint import row_names, to_rows
from autoscaler.core.pause import PauseSwitch
from autoscaler.runtime.restore import restored_controller
from autoscaler.runtime.store import StateStore
from tests.autoscaler.build import KEY
from tests.autoscaler.runtime.test_restart import OTHER, TICK_S, TICKS, Plant, settings_of

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
RELEASES = sorted(SAMPLES.glob("state-*.sqlite.gz"))


def test_there_is_a_file_of_the_first_release() -> None:
    assert [path.name for path in RELEASES][:1] == ["state-0.1.0.sqlite.gz"]


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
def test_the_state_of_a_release_is_read_whole_and_gone_on_with(tmp_path: Path, release: Path) -> None:
    path = tmp_path / "state.sqlite"
    path.write_bytes(gzip.decompress(release.read_bytes()))
    store = StateStore(path)
    assert store.notice == ""
    controller = restored_controller(settings_of(None), store)
    assert controller.notices == []
    state = controller.state
    assert state.tick == TICKS
    assert set(state.deployments) == {KEY.full, OTHER.full}
    for key in (KEY, OTHER):
        forecaster = state.forecasters[key.full]
        assert forecaster.last_time_s is not None, "the forecaster goes on where it was"
        assert state.deployments[key.full].demand.totals.arrivals > 1000.0
        assert state.deployments[key.full].supply.last_target is not None
    switch = PauseSwitch(store)
    assert (switch.notice, switch.state.deployments) == ("", {OTHER})

    plant = Plant()
    now_s = TICK_S * TICKS
    plan = controller.step(plant.signals(now_s), now_s)
    assert plan.tick == TICKS + 1
    assert all(one.target is not None for one in plan.deployments)
    store.save_controller(to_rows(state), row_names(state))
    store.close()


def write(target: Path) -> None:
    """The state file of the version at hand, after a run in which things were learned."""
    controller, plant = new_controller(settings_of(None)), Plant()
    for tick in range(TICKS):
        plant.apply(controller.step(plant.signals(TICK_S * tick), TICK_S * tick))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.sqlite"
        store = StateStore(path)
        store.save_controller(to_rows(controller.state), row_names(controller.state))
        PauseSwitch(store).set(OTHER, True)
        store.close()
        target.write_bytes(gzip.compress(path.read_bytes(), mtime=0))


if __name__ == "__main__":
    write(Path(sys.argv[1]))

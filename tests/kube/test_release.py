"""`leadtime release` as the chart's hook runs it before an uninstall: with the rendered settings and rights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from autoscaler.settings import load_config
from tests.chart import chart
from tests.cli.helpers import Ran, leadtime
from tests.fakes.kubernetes.rbac import Rbac
from tests.fakes.kubernetes.server import FakeApi
from tests.kube.helpers import kubeconfig

USER = f"system:serviceaccount:{chart.NAMESPACE}:demo-leadtime"


class Hook:
    """The rendered release on a fake API, four placeholders held, and the command of its pre-delete Job."""

    def __init__(self, api: FakeApi, docs: list[chart.Doc], folder: Path) -> None:
        self.api = api
        self.switch = chart.one(docs, "ConfigMap", "demo-leadtime-pause")
        self.placeholders = chart.one(docs, "Deployment", "demo-leadtime-warm-h100")
        api.add(self.switch)
        api.add({**self.placeholders, "spec": {**self.placeholders["spec"], "replicas": 4}})
        settings = yaml.safe_load(chart.settings(docs))
        settings["tick_s"] = 0.5
        settings["kubernetes"]["kubeconfig"] = str(kubeconfig(folder / "kubeconfig", api.url, "t"))
        self.settings = folder / "leadtime.yaml"
        self.settings.write_text(yaml.safe_dump(settings))
        (container,) = chart.one(docs, "Job")["spec"]["template"]["spec"]["containers"]
        self.words = [str(self.settings) if word.endswith(".yaml") else word for word in container["args"]]

    def run(self, *without: str) -> Ran:
        return leadtime(*(word for word in self.words if word not in without))

    @property
    def held(self) -> int:
        return int(self.api.read(self.placeholders)["spec"]["replicas"])

    @property
    def switched(self) -> Any:
        return self.api.read(self.switch).get("data", {}).get("paused")


@pytest.fixture
def docs() -> list[chart.Doc]:
    pool = {"name": "h100", "max_nodes": 4, "prewarm": "placeholder", "warm": {"gpus": 4}}
    return chart.render({"config": {"dry_run": False, "node_pools": [pool]}})


def test_the_hook_pauses_the_controllers_and_gives_back_with_no_more_rights_than_it_needs(
    docs: list[chart.Doc], tmp_path: Path
) -> None:
    with FakeApi(rbac=Rbac.from_documents(docs), tokens={"t": USER}, namespaces=(chart.NAMESPACE,)) as api:
        hook = Hook(api, docs, tmp_path)
        ran = hook.run()
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.startswith("paused: everything\nh100: ok: ")
        assert (hook.held, hook.switched) == (0, "true")
        assert hook.run().out == "paused: everything\nh100: unchanged: nothing is held\n"
        paused = next(i for i, r in enumerate(api.requests) if r.resource == "configmaps" and r.verb == "patch")
        given = next(i for i, r in enumerate(api.requests) if r.resource == "deployments/scale" and r.verb == "patch")
        assert paused < given, "a controller that runs on would have taken it again"
        assert [r.verb for r in api.requests if r.status == 403] == []


def test_without_the_switch_nothing_is_given_back_that_would_only_be_taken_again(
    docs: list[chart.Doc], tmp_path: Path
) -> None:
    alone = [d for d in docs if "helm.sh/hook" not in d["metadata"].get("annotations", {})]
    with FakeApi(rbac=Rbac.from_documents(alone), tokens={"t": USER}, namespaces=(chart.NAMESPACE,)) as api:
        hook = Hook(api, docs, tmp_path)
        ran = hook.run()
        assert (ran.code, ran.out, hook.held) == (1, "", 4)
        assert "forbidden" in ran.err.lower()
        assert hook.run("--pause").code == 0
        assert (hook.held, hook.switched) == (0, None)


def test_settings_without_kubernetes_have_no_switch(tmp_path: Path) -> None:
    file = tmp_path / "leadtime.yaml"
    file.write_text('version: 1\nservices: [{dashboard: "http://127.0.0.1:8265"}]\n')
    assert not load_config(file).prewarm
    assert leadtime("release", "--config", str(file)).out.startswith("no pool of these settings is pre-warmed")

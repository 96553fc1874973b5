"""The rights that `leadtime doctor` asks for are those that the chart gives, for every way to pre-warm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autoscaler.core.types.pools import WAYS
from autoscaler.diagnosis.cluster import Right, kubernetes_findings, rights, rights_findings
from autoscaler.settings import load_config
from autoscaler.settings.model import Config
from tests.chart.chart import one, render
from tests.fakes.kubernetes.rbac import Rbac
from tests.fakes.kubernetes.server import FakeApi
from tests.kube.helpers import client_of

ACCOUNT = "system:serviceaccount:lt:demo-leadtime"


def rendered(way: str, dry_run: bool, **values: Any) -> list[dict[str, Any]]:
    warm = {"gke": {"project": "p", "location": "l", "cluster": "c"}} if way == "node_pool" else {}
    pool = {"name": "h100", "prewarm": way, "warm": warm}
    return render({"config": {"dry_run": dry_run, "node_pools": [pool]}, **values})


def config_of(docs: list[dict[str, Any]], folder: Path) -> Config:
    file = folder / "leadtime.yaml"
    file.write_text(one(docs, "ConfigMap", "demo-leadtime")["data"]["leadtime.yaml"])
    return load_config(file, look_at_files=False)


def granted(docs: list[dict[str, Any]]) -> set[tuple[str, str, str, str, str]]:
    """(namespace, group, resource, name, verb), without those that only a hook has."""
    return {
        (doc["metadata"].get("namespace", ""), group, resource, name, verb)
        for doc in docs
        if doc["kind"] in ("Role", "ClusterRole") and "helm.sh/hook" not in doc["metadata"].get("annotations", {})
        for rule in doc["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    }


def asked(right: Right) -> tuple[str, str, str, str, str]:
    resource = f"{right.resource.plural}/{right.subresource}" if right.subresource else right.resource.plural
    return right.namespace, right.resource.group, resource, right.name, right.verb


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("way", sorted(WAYS))
@pytest.mark.parametrize("values", [{}, {"replicas": 2}, {"watchNamespaces": ["llm", "chat"]}])
def test_doctor_asks_for_what_the_chart_gives(way: str, dry_run: bool, values: dict[str, Any], tmp_path: Path) -> None:
    docs = rendered(way, dry_run, **values)
    config = config_of(docs, tmp_path)
    assert config.kubernetes is not None
    assert {asked(right) for right in rights(config, config.kubernetes)} == granted(docs)


@pytest.mark.parametrize("way", sorted(WAYS))
async def test_with_the_charts_rights_nothing_is_missing(way: str, tmp_path: Path) -> None:
    docs = rendered(way, dry_run=False)
    config = config_of(docs, tmp_path)
    assert config.kubernetes is not None
    with FakeApi(rbac=Rbac.from_documents(docs), tokens={"t": ACCOUNT}, namespaces=("lt",)) as api:
        client = client_of(api, "t")
        found = await rights_findings(client, list(rights(config, config.kubernetes)))
        await client.close()
    assert [finding.level for finding in found] == ["ok"]


async def test_a_right_of_a_way_to_prewarm_that_is_missing_fails_by_name(tmp_path: Path) -> None:
    docs = rendered("placeholder", dry_run=False)
    config = config_of(docs, tmp_path)
    assert config.kubernetes is not None
    for doc in docs:
        if doc["kind"] == "Role":
            doc["rules"] = [rule for rule in doc["rules"] if "deployments/scale" not in rule["resources"]]
    with FakeApi(rbac=Rbac.from_documents(docs), tokens={"t": ACCOUNT}, namespaces=("lt",)) as api:
        found = await kubernetes_findings(config, config.kubernetes, client_of(api, "t"))
    assert [str(finding) for finding in found] == [
        "fail  kubernetes rights: may not patch deployments/scale.apps demo-leadtime-warm-h100 in namespace lt; it is "
        "needed to pre-warm pool h100 by placeholder"
    ]

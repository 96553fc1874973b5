"""No string of the values becomes anything but that string: refused by the schema, or one value in the objects.

Every string that the cases and the example of every value hold is replaced, one at a time, by text that means something
in YAML. Not for `extraObjects`, which are objects of the administrator's own, and templates where they are text.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from functools import cache, reduce
from typing import Any

import helm_python as helm
import jsonschema
import pytest
import yaml

from charts.generate.files import values_schema
from tests.chart.chart import CASES, CHART, NAME, NAMESPACE, Doc, documents, one, values_of
from tests.chart.test_values import CHANGES, put

BREAKS_OUT = (
    "x\nhostNetwork: true",
    "x\n      hostNetwork: true\n",
    '"\nhostNetwork: true\n#',
    "x\r\nhostNetwork: true",
)
MEANS_SOMETHING = (
    "true", "1", "1e3", "0x1f", "012", "null", "~", "yes", "2001-01-01", "a: b", "a #b", "- a", "{a: b}", "[a]", "a'b",
    'a"b', "&a", "*a", "!!int 1", "%a", "@a", "`a", "|", ">", "? a", " a ", "a\\nb", "a\tb", "{{ .Release.Name }}",
    "${1}", "a,}",
)  # fmt: skip
Path = tuple[Any, ...]
TEMPLATES = ("extraObjects",)


# ---------------------------------------------------------------- where strings are


def strings(node: Any, above: Path = ()) -> Iterator[Path]:
    """The path of every string; a key of a mapping ends in `KEY`."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from strings(value, (*above, key))
            yield (*above, key, KEY)
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from strings(value, (*above, i))
    elif isinstance(node, str):
        yield above


class _Key:
    def __repr__(self) -> str:
        return "KEY"


KEY = _Key()


def replaced(node: Any, path: Path, text: str) -> Any:
    """A copy with `text` in place of what is at the path."""
    new = copy.deepcopy(node)
    at = new
    is_key = path[-1] is KEY
    steps = path[:-1] if is_key else path
    for step in steps[:-1]:
        at = at[step]
    if is_key:
        kept = {(text if key == steps[-1] else key): value for key, value in at.items()}
        at.clear()
        at.update(kept)
    else:
        at[steps[-1]] = text
    return new


def bases() -> dict[str, Doc]:
    """Values, by what they are for: between them they have every value that there is."""
    return {
        **{case: values_of(case) for case in CASES},
        **{key: put(beside, key, value) for key, (value, beside) in CHANGES.items()},
    }


def places() -> Iterator[tuple[str, Path]]:
    seen = set()
    for name, values in bases().items():
        for path in strings(values):
            if path not in seen and path[0] not in TEMPLATES:
                seen.add(path)
                yield name, path


PLACES = list(places())


# ---------------------------------------------------------------- what is made of them


@cache
def chart() -> helm.Chart:
    return helm.Chart.load(str(CHART))


@cache
def validator() -> Any:
    return jsonschema.Draft202012Validator(values_schema())


def rendered(values: Doc) -> list[Doc]:
    files = chart().render(values, name=NAME, namespace=NAMESPACE)
    return documents("\n---\n".join(text for name, text in files.items() if not name.endswith("NOTES.txt")))


def shape(docs: list[Doc], text: str) -> Counter[str]:
    """How often each path of keys leads to each type; a key that is `text` is called KEY."""
    found: Counter[str] = Counter()

    def walk(node: Any, path: str) -> None:
        if isinstance(node, dict):
            found[f"{path} {{}}"] += 1
            for key, value in node.items():
                assert isinstance(key, str), f"{path}: the key {key!r}"
                walk(value, f"{path}/{KEY if key == text else key}")
        elif isinstance(node, list):
            found[f"{path} []"] += 1
            for value in node:
                walk(value, f"{path}[]")
        else:
            found[f"{path} {type(node).__name__}"] += 1

    for doc in docs:
        settings = doc.get("data", {}).get("leadtime.yaml")
        if settings is not None:
            doc = {**doc, "data": {**doc["data"], "leadtime.yaml": yaml.safe_load(settings)}}
        walk(doc, doc["kind"])
    return found


def made(base: Doc, path: Path, text: str) -> Counter[str] | None:
    """The shape with `text` at the path; None when it is refused, by the schema or in words of the chart."""
    try:
        return shape(rendered(replaced(base, path, text)), text)
    except helm.HelmError:
        return None


def usual(base: Doc, path: Path) -> Counter[str]:
    """The shape with a harmless text at the path: `zz` where that is taken, else what was there."""
    was = path[-2] if path[-1] is KEY else reduce(lambda node, step: node[step], path, base)
    return made(base, path, "zz") or shape(rendered(base), str(was))


def test_the_places_are_in_every_value_that_has_strings() -> None:
    names = {str(path[0]) for _, path in PLACES}
    assert {"priorityClassName", "commonLabels", "config", "files", "secrets", "extraEnv", "prewarm", "image"} <= names
    assert {key.split(".")[0] for key, (value, _) in CHANGES.items() if isinstance(value, str)} <= names
    assert len(PLACES) > 200


@pytest.mark.parametrize("name", sorted({name for name, _ in PLACES}))
def test_no_string_of_the_values_becomes_anything_but_that_string(name: str) -> None:
    base = bases()[name]
    for path in [path for of, path in PLACES if of == name]:
        taken = [text for text in (*BREAKS_OUT, *MEANS_SOMETHING) if validator().is_valid(replaced(base, path, text))]
        before = usual(base, path) if taken else None
        for text in taken:
            assert made(base, path, text) in (before, None), (path, text)


@pytest.mark.parametrize("text", BREAKS_OUT)
def test_helm_refuses_what_breaks_out_of_a_line_wherever_a_line_is_wanted(text: str) -> None:
    """The judge is helm's own reading of the schema, not this test's."""
    for name, path in (
        ("priorityClassName", ("priorityClassName",)),
        ("persistence.existingClaim", ("persistence", "existingClaim")),
        ("secrets", ("secrets", 0, "name")),
        ("prewarm.priorityClassName", ("prewarm", "priorityClassName")),
        ("networkPolicy.apiServerCidrs", ("networkPolicy", "apiServerCidrs", 0)),
        ("extraArgs", ("extraArgs", 0)),
        ("commonLabels", ("commonLabels", "team")),
        ("commonLabels", ("commonLabels", "team", KEY)),
        ("fullnameOverride", ("fullnameOverride",)),
        ("prometheusRule.cluster", ("prometheusRule", "cluster")),
        ("prometheusRule.clusterLabel", ("prometheusRule", "clusterLabel")),
        ("prewarm.gpuResource", ("prewarm", "gpuResource")),
    ):
        with pytest.raises(helm.HelmValuesError):
            rendered(replaced(bases()[name], path, text))


def test_an_annotation_and_a_file_may_have_lines_and_keep_them() -> None:
    text = "a: b\nhostNetwork: true\n  - c"
    docs = rendered({"podAnnotations": {"note": text}, "files": {"1": text, "true": "  x\ny"}})
    pod = one(docs, "Deployment")["spec"]["template"]
    assert pod["metadata"]["annotations"]["note"] == text
    assert "hostNetwork" not in pod["spec"]
    data = one(docs, "ConfigMap", "demo-leadtime")["data"]
    assert (data["1"], data["true"]) == (text, "  x\ny")


def test_every_string_of_the_schema_has_a_pattern_or_is_one_of_a_few() -> None:
    """Settings aside, which are those of the settings' model, and objects of Kubernetes, which stay as they are."""
    schema = values_schema()

    def walk(node: Any, path: str) -> Iterator[str]:
        if isinstance(node, dict):
            types = node.get("type")
            text = types == "string" or (isinstance(types, list) and "string" in types)
            if text and not {"pattern", "enum"} & set(node) and not path.endswith("extraObjects/items"):
                yield path
            for key, value in node.items():
                yield from walk(value, f"{path}/{key}")
        elif isinstance(node, list):
            for value in node:
                yield from walk(value, path)

    values = {key: value for key, value in schema["properties"].items() if key != "config"}
    assert list(walk(values, "")) == []

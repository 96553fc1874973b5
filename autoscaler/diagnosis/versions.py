"""This program's version, and where those of Ray and vLLM lie in the table of versions it works with."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

from autoscaler import __version__
from autoscaler.diagnosis.finding import Finding
from autoscaler.diagnosis.supported import RAY, TABLE, VLLM, dotted


def versions() -> Iterator[Finding]:
    """This program, and what is installed beside it; what is not there is not needed here."""
    yield Finding("ok", "leadtime", f"{__version__}, for {RAY.name} {RAY.span} and {VLLM.name} {VLLM.span}")
    for supported, package in ((RAY, "ray"), (VLLM, "vllm")):
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
        yield of_version(f"{package} installed here", supported.name, version)


def of_version(subject: str, name: str, version: str) -> Finding:
    """Where a version lies in the table."""
    supported = next(one for one in TABLE if one.name == name)
    place = supported.place(version)
    words = f"{name} {version}"
    if place == "known":
        return Finding("ok", subject, words)
    if place == "too old":
        return Finding(
            "fail", subject, words, f"{dotted(supported.oldest)} or newer is needed: {supported.lacks(version)}"
        )
    return Finding("warn", subject, words, f"{place} (tried: {supported.span})")

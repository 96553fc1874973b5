"""Renders the live page and its fragments: once a tick for all readers, and only what changed is made anew.

A fragment is the inside of one element, by its id. A reader's stream gets the fragments that differ from those of the
tick before. Of a row whose numbers alone changed it gets the numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from autoscaler.api.live.view import Line, View
from autoscaler.api.telemetry import Telemetry
from policies.base import DeploymentKey

FEW = 12
"""With more deployments than that the table is an overview, and the detail of one is shown on request only."""
ASSETS: Mapping[str, str] = {"live.css": "text/css", "live.js": "text/javascript"}
_DETAILS_KEPT = 64


@lru_cache(maxsize=1)
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("autoscaler.api.live"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@lru_cache(maxsize=8)
def asset(name: str) -> bytes:
    """A file of ASSETS."""
    return files("autoscaler.api.live").joinpath("templates", name).read_bytes()


def sign_in(wrong: str = "") -> str:
    """The form for the read token; `wrong`: why the last one was refused."""
    return _templates().get_template("sign_in.html").render(wrong=wrong)


@dataclass(frozen=True, slots=True)
class Fragments:
    """Of one tick and one opened deployment."""

    layout: str
    """Another one where fragments are not enough and the page has to be loaded anew; of this process alone."""
    tick: int
    inside: Mapping[str, str]
    """Element id -> what is inside."""
    rows: Mapping[str, Line]
    """Element id -> row of the table."""


@dataclass(slots=True)
class LivePages:
    """All pages of one controller: what two readers see alike is rendered once."""

    telemetry: Telemetry
    _tick: int | None = None
    _view: View | None = None
    _common: dict[str, str] = field(default_factory=dict)
    _rows: dict[str, Line] = field(default_factory=dict)
    _sparks: dict[DeploymentKey, tuple[int, str]] = field(default_factory=dict)
    _fragments: dict[DeploymentKey | None, Fragments] = field(default_factory=dict)
    _news: dict[DeploymentKey | None, tuple[Fragments | None, bytes]] = field(default_factory=dict)
    """What those who have seen certain fragments of a tick before get at this one."""

    def whole(self, wanted: DeploymentKey | None, now_s: float) -> str:
        """The page, with the detail of `wanted` open."""
        fragments = self.fragments(wanted, now_s)
        view = self._view_of(now_s)
        opened = self._opened(view, wanted)
        rows = []
        for key in view.order() if len(view.keys) > 1 else ():
            line = fragments.rows[_row_id(view, key)]
            rows.append((line, _part("row", line, Markup(fragments.inside[f"spark-{line.place}"]))))  # made of numbers
        return (
            _templates()
            .get_template("page.html")
            .render(
                inside={name: Markup(html) for name, html in fragments.inside.items()},  # escaped by their templates
                rows=rows,
                overview=len(view.keys) > FEW,
                opened=None if opened is None else str(opened),
                tick_s=self.telemetry.config.tick_s,
                layout=fragments.layout,
                tick=fragments.tick,
            )
        )

    def fragments(self, wanted: DeploymentKey | None, now_s: float) -> Fragments:
        """What is shown after the newest tick, with the detail of `wanted` open."""
        view = self._view_of(now_s)
        opened = self._opened(view, wanted)
        found = self._fragments.get(opened)
        if found is None:
            detail = "" if opened is None else _part("detail", view.detail(opened))
            layout = str(abs(hash((view.keys, opened))))
            found = self._fragments[opened] = Fragments(
                layout, view.tick, {**self._common, "detail": detail}, self._rows
            )
        return found

    def news(self, wanted: DeploymentKey | None, before: Fragments | None, now_s: float) -> tuple[Fragments, bytes]:
        """The newest fragments, and as JSON what of them a reader who has seen `before` lacks (None: all)."""
        now = self.fragments(wanted, now_s)
        opened = self._opened(self._view_of(now_s), wanted)
        known = self._news.get(opened)
        if known is None or known[0] is not before:
            known = self._news[opened] = (before, json.dumps(_changes(before, now)).encode())
        return now, known[1]

    def _view_of(self, now_s: float) -> View:
        """Made once a tick, with everything that all readers see alike."""
        plan = self.telemetry.plan
        tick = -1 if plan is None else plan.tick
        if self._view is None or tick != self._tick or plan is None:
            self._tick, self._view = tick, View(self.telemetry, now_s)
            self._fragments, self._news = {}, {}
            self._of_all(self._view)
        return self._view

    def _opened(self, view: View, wanted: DeploymentKey | None) -> DeploymentKey | None:
        if wanted in view.keys:
            return wanted
        return view.order()[0] if 0 < len(view.keys) <= FEW else None

    def _of_all(self, view: View) -> None:
        self._common = {
            "top": _part("top", view.top()),
            "banners": _part("banners", view.banners()),
            "summary": _part("summary", view) if len(view.keys) != 1 else "",
            "pools": _part("pools", view.pools()),
            "events": _part("events", view.events()),
            "decisions": _part("decisions", view.decisions()),
        }
        self._rows = {}
        sparks = {}
        if len(view.keys) > 1:
            for key in view.keys:
                line, turn = view.line(key), view.spark_turn(key)
                known = self._sparks.get(key)
                sparks[key] = known if known is not None and known[0] == turn else (turn, str(view.spark(key)))
                self._common[f"spark-{line.place}"] = sparks[key][1]
                self._rows[f"row-{line.place}"] = line
        self._sparks = sparks


def _row_id(view: View, key: DeploymentKey) -> str:
    return f"row-{view.places[key]}"


def _changes(before: Fragments | None, now: Fragments) -> dict[str, Any]:
    """`inside`: element id -> HTML; `cells`: id of a row -> its numbers, and its traffic to sort by."""
    if before is None:
        cells = {name: _cells(row) for name, row in now.rows.items()}
        return {"layout": now.layout, "tick": now.tick, "inside": dict(now.inside), "cells": cells}
    inside = {name: html for name, html in now.inside.items() if before.inside.get(name) != html}
    cells = {}
    for name, row in now.rows.items():
        old = before.rows.get(name)
        if old is None or old.head != row.head:
            inside[name] = _part("row", row, "")  # the page keeps the small line that it has
        elif old.cells != row.cells:
            cells[name] = _cells(row)
    return {"layout": now.layout, "tick": now.tick, "inside": inside, "cells": cells}


def _cells(row: Line) -> list[str]:
    return [*row.cells, str(row.sort[0])]


def _part(name: str, *shown: object) -> Markup:
    """A macro of the parts' template."""
    made: Markup = getattr(_parts(), name)(*shown)
    return made


@lru_cache(maxsize=1)
def _parts() -> Any:
    return _templates().get_template("parts.html").module

"""The live page in a real browser: it fits, is read and used by keyboard, and takes what changes from its stream."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from autoscaler.api.access import Readers
from autoscaler.api.server import Server
from autoscaler.api.telemetry import Telemetry
from autoscaler.core.pause import PauseSwitch
from autoscaler.core.types import Signals, SourceStatus
from policies.base import StartView
from tests.autoscaler.api.test_live_page import NOW_S, deployment, forecast, key, published
from tests.browser import Tab, browser

LONG = "a-deployment-with-a-name-that-is-as-long-as-names-get-in-a-large-company-0123456789"
CONTRAST = """
(() => {
  const rgba = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const over = (top, below) => { const a = top[3] ?? 1; return [0, 1, 2].map((i) => a * top[i] + (1 - a) * below[i]); };
  const page = (el) => {
    if (!el) return [255, 255, 255];
    const own = rgba(getComputedStyle(el).backgroundColor);
    return own[3] === 0 ? page(el.parentElement) : over(own, page(el.parentElement));
  };
  const linear = (v) => v / 255 <= .03928 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
  const light = (c) => .2126 * linear(c[0]) + .7152 * linear(c[1]) + .0722 * linear(c[2]);
  const bad = [];
  for (const el of document.querySelectorAll("body *")) {
    const own = [...el.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !el.getClientRects().length || el.closest("[aria-hidden=true]")) continue;
    const style = getComputedStyle(el), under = page(el), text = over(rgba(style.color), under);
    const [a, b] = [light(text), light(under)].sort((x, y) => y - x), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700), ratio = (a + .05) / (b + .05);
    const words = el.textContent.trim().slice(0, 30);
    if (ratio < (large ? 3 : 4.5)) bad.push(`${el.className || el.tagName}: ${words}: ${ratio.toFixed(2)}`);
  }
  return [...new Set(bad)];
})()
"""
WIDE = "Math.max(0, document.documentElement.scrollWidth - document.documentElement.clientWidth)"


def fleet(count: int) -> Telemetry:
    start = StartView(NOW_S - 10.0, "new_node", "node", NOW_S + 200.0)
    long = key(1)._replace(app=f"app001-{LONG}")
    ones = [deployment(long if i == 1 else key(i)) for i in range(count)]
    ones[0] = deployment(key(0), target=7, starting=(start,), attained_fraction=0.95)
    signals = Signals(sources=(SourceStatus("ray", True, NOW_S), SourceStatus("prometheus", False, None, "x" * 300)))
    return published(*ones, ticks=40, signals=signals, config={"dry_run": True},
                     forecasts={p.key: forecast() for p, _ in ones})  # fmt: skip


@asynccontextmanager
async def served(telemetry: Telemetry, readers: Readers | None = None) -> AsyncIterator[str]:
    server = Server(telemetry, PauseSwitch(None), "127.0.0.1", 0, None, lambda: NOW_S, readers=readers)
    await server.start()
    try:
        yield f"http://127.0.0.1:{server.port}/"
    finally:
        await server.stop()


@pytest.fixture
async def tab(tmp_path: Path) -> AsyncIterator[Tab]:
    async with browser(tmp_path / "browser") as found:
        yield found


async def test_it_fits_from_a_phone_to_a_desk_and_is_read_in_light_and_dark(tab: Tab) -> None:
    for count in (1, 4, 30):
        async with served(fleet(count)) as url:
            opened = url + "?open=app000/llm"
            for width in (390, 720, 1440):
                for dark in (False, True):
                    await tab.open(opened, width, dark)
                    assert await tab.run("document.querySelectorAll('.plot svg').length") == 5
                    assert (count, width, await tab.run(WIDE)) == (count, width, 0)
                    assert (count, width, dark, await tab.run(CONTRAST)) == (count, width, dark, [])
    assert tab.complaints() == []


async def test_it_asks_nobody_but_its_controller(tab: Tab) -> None:
    async with served(fleet(2)) as url:
        await tab.open(url)
        await tab.until("document.querySelector('.fresh .text').textContent.startsWith('live')")
    asked = {e["params"]["request"]["url"] for e in tab.events if e.get("method") == "Network.requestWillBeSent"}
    assert {one for one in asked if not one.startswith((url, "data:"))} == set()


async def test_what_changes_comes_by_the_stream(tab: Tab) -> None:
    telemetry = fleet(3)
    async with served(telemetry) as url:
        await tab.open(url)
        await tab.until("document.querySelector('.fresh .text').textContent.startsWith('live')")
        await tab.run("document.querySelector('details.astable summary').click()")
        assert await tab.run("document.querySelector('#row-2').cells[2].textContent") == "7.25"
        publish(telemetry, rate_rps=11.5)
        await tab.until("document.querySelector('#row-2').cells[2].textContent === '11.5'")
        await tab.until("document.querySelector('#detail .stats b').textContent === '11.5'")
        assert await tab.run("document.querySelector('details.astable').open")
        assert await tab.run("document.querySelectorAll('#row-2 td.spark svg').length") == 1
        assert tab.complaints() == []


def publish(telemetry: Telemetry, rate_rps: float) -> None:
    """One tick more, with another rate of all."""
    plan = telemetry.plan
    assert plan is not None
    seen = tuple(dataclasses.replace(one, rate_rps=rate_rps) for one in plan.observations)
    later = dataclasses.replace(plan, tick=plan.tick + 1, now_s=plan.now_s + 10.0, observations=seen)
    telemetry.publish(telemetry.signals or Signals(), later, (), 0.003)


async def test_search_chips_and_rows_work_by_keyboard(tab: Tab) -> None:
    async with served(fleet(30)) as url:
        await tab.open(url)
        visible = "[...document.querySelectorAll('#table tbody tr')].filter((row) => !row.hidden).length"
        assert await tab.run(visible) == 30
        await tab.key("/")
        assert await tab.run("document.activeElement.id") == "search"
        for letter in "app017":
            await tab.key(letter)
        await tab.until(f"{visible} === 1")
        await tab.key("ArrowDown")
        assert "app017" in await tab.run("document.activeElement.textContent")
        await tab.key("Enter")
        await tab.until("location.search === '?open=app017/llm' && document.querySelector('#detail h2') !== null")
        assert await tab.run("document.querySelector('#detail h2').textContent") == "app017/llm"
        await tab.run("document.querySelector('[data-filter=look]').click()")
        assert await tab.run(visible) == 1
        await tab.run("document.querySelector('[data-filter=all]').click()")
        await tab.run("document.querySelector('th[data-sort=rate] button').click()")
        assert await tab.run("document.querySelector('th[data-sort=rate]').getAttribute('aria-sort')") == "descending"
    assert await tab.run("document.querySelectorAll('h1').length") == 1
    assert await tab.run("[...document.querySelectorAll('svg')].every((s) => s.ariaHidden || s.ariaLabel)") is True


async def test_signing_in_by_the_form(tab: Tab, tmp_path: Path) -> None:
    (tmp_path / "read").write_text("read-0123456789\n")
    async with served(fleet(1), Readers(token_file=tmp_path / "read")) as url:
        await tab.open(url, 390)
        assert await tab.run(WIDE) == 0
        assert await tab.run(CONTRAST) == []
        await tab.run("document.querySelector('#token').value = 'wrong'")
        await tab.run("document.querySelector('form').submit()")
        await tab.until("document.querySelector('[role=alert]') !== null")
        await tab.run("document.querySelector('#token').value = 'read-0123456789'")
        await tab.run("document.querySelector('form').submit()")
        await tab.until("document.querySelector('#detail') !== null")
        await tab.until("document.querySelector('.fresh .text').textContent.startsWith('live')")
        assert await tab.run("document.cookie") == ""

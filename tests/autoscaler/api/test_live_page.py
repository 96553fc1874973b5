"""The live page over real HTTP: what it says, what its streams send, and who may see it."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import AsyncIterator, Mapping
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from autoscaler.api.live import words
from autoscaler.api.live.history import KEPT_S, History
from autoscaler.api.live.page import LivePages
from autoscaler.api.telemetry import Telemetry, new_telemetry
from autoscaler.common.redaction import remember
from autoscaler.core.types import (
    Condition,
    ControllerConfig,
    DeploymentPlan,
    DeploymentSettings,
    GuardRecord,
    Hint,
    Knowledge,
    NodeSignal,
    Observation,
    PauseState,
    Plan,
    PoolRefusal,
    PoolSettings,
    PoolSignals,
    QuantityStatus,
    Signals,
    SourceStatus,
)
from policies.base import DeploymentKey, Forecast, LeadTimes, Slo, StartView, Term, TokenMix
from policies.base.durations import Duration
from tests.autoscaler.api.test_access import CHANGE, READ, TEAM_A, Guarded, guarded

__all__ = ["guarded"]

NOW_S = 1_800_000_000.0
TIMES = LeadTimes(Duration(30.0), Duration(90.0), Duration(240.0))
POOL = PoolSettings("h100", gpus_per_node=8, max_nodes=8, price_usd_per_hour=88.0)


def key(i: int) -> DeploymentKey:
    return DeploymentKey("default", "local", f"app{i:03}", "llm")


def deployment(
    name: DeploymentKey, target: int | None = 4, shown: int = 4, running: int = 4, **other: Any
) -> tuple[DeploymentPlan, Observation]:
    """A plan and an observation; `other` replaces fields of the one that has them."""
    terms = (Term("rule", target or 0, "p99 of the next lead time is 9 req/s"),)
    plan = DeploymentPlan(name, target, shown, target, terms, sentence=f"{shown} → {target}: traffic rises")
    seen = Observation(
        name, rate_rps=7.25, mix=TokenMix(810.0, 205.0), waiting=1.0, ongoing=9.0, kv_usage_fraction=0.71,
        attained_fraction=0.998, fresh=True, running=running, draining=0, target=shown, metrics_as_of_s=NOW_S,
    )  # fmt: skip
    of_plan = {f.name for f in dataclasses.fields(plan)}
    plan = dataclasses.replace(plan, **{k: v for k, v in other.items() if k in of_plan})
    seen = dataclasses.replace(seen, **{k: v for k, v in other.items() if k not in of_plan})
    return plan, seen


def forecast(calibrated: bool = True) -> Forecast:
    rows = tuple((v, v * 1.1, v * 1.2, v * 1.3, v * 1.5) for v in (7.0, 8.0, 9.0))
    return Forecast("mixture", NOW_S, (60.0, 300.0, 1200.0), (0.5, 0.75, 0.9, 0.95, 0.99), rows, calibrated, "2 days")


def published(
    *ones: tuple[DeploymentPlan, Observation], ticks: int = 3, signals: Signals | None = None,
    forecasts: Mapping[DeploymentKey, Forecast] | None = None, config: Mapping[str, Any] | None = None, **plan: Any,
) -> Telemetry:  # fmt: skip
    """Telemetry after some equal ticks, ten seconds apart, the last at NOW_S."""
    settings = tuple(
        DeploymentSettings(str(one.key), slo=Slo(2.0, 0.05, 0.99), min_replicas=1, max_replicas=12) for one, _ in ones
    )
    telemetry = new_telemetry(
        ControllerConfig(settings, (POOL,), **{"dry_run": False, "tick_s": 10.0, **(config or {})})
    )
    for i in range(ticks):
        telemetry.publish(
            signals or Signals(sources=(SourceStatus("ray", True, NOW_S),)),
            Plan(
                **{
                    "tick": i + 1, "now_s": NOW_S - 10.0 * (ticks - 1 - i), "leader": True, "dry_run": False,
                    "deployments": tuple(p for p, _ in ones), "observations": tuple(o for _, o in ones),
                    "forecasts": {p.key: forecast() for p, _ in ones} if forecasts is None else forecasts,
                    "capacities_rps": {p.key: 2.5 for p, _ in ones}, "lead_times": {p.key: TIMES for p, _ in ones},
                    **plan,
                }
            ), (), 0.003,
        )  # fmt: skip
    return telemetry


def shown(telemetry: Telemetry, opened: DeploymentKey | None = None) -> str:
    return LivePages(telemetry).whole(opened, NOW_S)


def text_of(html: str) -> str:
    """Without tags and runs of blanks."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


# ---------------------------------------------------------------- what it says


def test_it_says_first_what_comes_what_is_done_and_when_it_arrives() -> None:
    start = StartView(NOW_S - 10.0, "new_node", "node", NOW_S + 200.0)
    page = shown(published(deployment(key(1), target=7, shown=4, starting=(start, start))))
    text = text_of(page)
    assert "expected to reach at most" in text
    assert "Going from 4 to 7 replicas now : 2 starting, ready by 08:03" in text
    assert text.index("expected to reach") < text.index("Traffic now") < text.index("Why 7?")
    assert "810 in, 205 out tokens" in text


def test_it_says_why_this_number_why_not_fewer_and_why_not_more() -> None:
    text = text_of(shown(published(deployment(key(1), target=5, shown=5, running=5))))
    expected = words.number(forecast().quantile(TIMES.new_node.quantile(0.9), 0.99))
    assert f"Why not 4? 4 replicas carry 10 req/s; up to {expected} req/s are expected" in text
    capped = GuardRecord("max_replicas", key(1), 9, 5, "replicas.max is 5")
    text = text_of(shown(published(deployment(key(1), target=5, guards=(capped,)))))
    assert "Why not more? replicas.max is 5" in text
    assert "limited: replicas.max is 5" in text


def test_unknown_is_never_shown_as_zero() -> None:
    gone = QuantityStatus("unknown", "metrics 90 s old")
    unknown = deployment(
        key(1), target=None, fresh=False, why_stale="metrics 90 s old", rate_rps=None, waiting=None,
        kv_usage_fraction=None, attained_fraction=None, knowledge=Knowledge(gone, gone, gone, gone, gone, gone),
    )  # fmt: skip
    text = text_of(shown(published(unknown, forecasts={})))
    assert "What comes is unknown : metrics 90 s old." in text
    assert "Traffic now ? req/s" in text
    assert "Traffic now 0" not in text
    assert "no fan: there is no forecast of it" in text


def test_each_banner_says_cause_consequence_and_how_to_end_it() -> None:
    refused = PoolSignals(
        "h100", NOW_S, (NodeSignal("n", "ready", gpus=8, gpus_used=8),), refused_at_s=NOW_S - 60.0,
        refusals=(PoolRefusal(NOW_S - 60.0, "stockout", "europe-west4-a", "no capacity in the zone"),),
    )  # fmt: skip
    signals = Signals(
        pools=(refused,), pause=PauseState(deployments=frozenset({key(1)})),
        sources=(SourceStatus("ray", True, NOW_S), SourceStatus("prometheus", False, None, "timed out")),
    )  # fmt: skip
    telemetry = published(
        deployment(key(1)), deployment(key(2)), signals=signals, leader=False, config={"dry_run": True},
        forecasts={key(1): forecast(calibrated=False), key(2): forecast()},
    )  # fmt: skip
    telemetry.conditions = (Condition("not_done", key(2), NOW_S - 400.0, "Serve accepted 7 and has 4"),)
    page = shown(telemetry)
    for cause, consequence in (
        ("Source prometheus cannot be read", "not taken for zero"),
        ("Pool h100 out of stock", "no capacity in the zone"),
        ("Scale not done", "Serve accepted 7 and has 4"),
        ("Dry run", "not carried out"),
        ("Follower", "another controller leads"),
        ("Forecast off", "reactive until then"),
        ("1 deployment paused", "leadtime resume DEPLOYMENT"),
    ):
        assert cause in text_of(page)
        assert consequence in text_of(page)
    kinds = [kind for kind in ("bad", "warn", "info") for _ in range(page.count(f'class="banner {kind}"'))]
    places = [page.index(f'class="banner {kind}"') for kind in dict.fromkeys(kinds)]
    assert places == sorted(places)
    assert "no capacity in the zone" in text_of(page[page.index('id="pools"') :])


def test_a_page_that_has_no_decision_yet_and_one_without_deployments_say_so() -> None:
    assert "The first decision is not made yet." in text_of(shown(new_telemetry(ControllerConfig())))
    assert "No Ray Serve application found." in text_of(shown(published()))


def test_an_old_decision_is_told() -> None:
    page = LivePages(published(deployment(key(1)))).whole(None, NOW_S + 120.0)
    assert "No decision lately the last one is 2:00 min old" in text_of(page)


def test_announced_demand_is_shown_with_when_replicas_are_asked_for() -> None:
    hint = Hint("h", key(1), NOW_S + 3600.0, NOW_S + 7200.0, rps=40.0, asked_by="crm")
    text = text_of(shown(published(deployment(key(1)), signals=Signals(hints=(hint,)))))
    asked = words.clock(NOW_S + 3600.0 - TIMES.new_node.quantile(0.9)).striptags()
    assert f"09:00 app001/llm 40 req/s until 10:00 . Replicas will be asked for by {asked} . crm" in text


def test_one_shows_its_detail_twelve_a_table_too_and_a_hundred_an_overview_with_trouble_first() -> None:
    one = shown(published(deployment(key(1))))
    assert "<tbody>\n<tr" not in one
    assert 'class="charts"' in one
    twelve = shown(published(*(deployment(key(i)) for i in range(12))))
    assert twelve.count("<tr id=") == 12
    assert twelve.count('class="charts"') == 1
    many = [deployment(key(i), rate_rps=float(i)) for i in range(98)]
    many += [deployment(key(98), attained_fraction=0.9), deployment(key(99), target=6)]
    telemetry = published(*many)
    hundred = shown(telemetry)
    assert hundred.count("<tr id=") == 100
    assert 'class="charts"' not in hundred
    rows = hundred.split("<tr id=")[1:]
    assert ["app098" in rows[0], "app099" in rows[1], "app097" in rows[2]] == [True, True, True]
    assert "1 of 100 deployments is missing their SLO. 1 is scaling up ahead of traffic." in text_of(hundred)
    assert 'class="charts"' in shown(telemetry, key(42))


def test_names_and_reasons_of_others_are_text_and_secrets_are_blanked_in_reasons_alone() -> None:
    remember("hunter2-token")
    bad = DeploymentKey("default", "local", "<script>alert(1)</script>", 'x" onload="y')
    guard = GuardRecord("max_replicas", bad, 9, 5, "<img src=x onerror=z> hunter2-token")
    named = DeploymentKey("default", "local", "hunter2-token", "llm")
    page = shown(published(deployment(bad, target=5, guards=(guard,)), deployment(named)), bad)
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert 'onload="y' not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "hunter2-token/llm" in page
    assert "z&gt; [secret]" in page


def test_numbers_have_three_digits_and_never_lie_about_all_or_nothing() -> None:
    assert [words.number(v) for v in (None, math.nan, 0.0, 9.123, 16.94, 612.4, 3268.0, -2.5)] == [
        "?", "?", "0", "9.12", "16.9", "612", "3,268", "−2.5",
    ]  # fmt: skip
    assert words.percent(0.99996, 2) == "99.99\N{NARROW NO-BREAK SPACE}%"
    assert words.percent(1.0, 2).startswith("100.00")
    assert words.percent(0.0001).startswith("<")
    assert [words.duration(v) for v in (41.6, 290.0, 3900.0, None)] == ["42 s", "4:50 min", "1:05 h", "?"]


# ---------------------------------------------------------------- what is remembered


def test_two_hours_are_remembered_in_bounded_memory_and_names_that_come_and_go_are_forgotten() -> None:
    history = History()
    for tick in range(2000):
        one, seen = deployment(key(1), rate_rps=float(tick))
        others = [deployment(DeploymentKey("t", "s", f"name{tick}", "llm"))]
        pairs = [(one, seen), *others]
        plan = Plan(
            tick, NOW_S + 10.0 * tick, True, False, tuple(p for p, _ in pairs), observations=tuple(o for _, o in pairs)
        )
        history.remember(plan, {}, {})
    points = list(history.points(key(1)))
    assert points[-1].rate_rps == 1999.0
    assert points[0].now_s >= points[-1].now_s - KEPT_S
    assert len(points) <= 482
    assert sum(1 for tick in range(2000) for _ in history.points(DeploymentKey("t", "s", f"name{tick}", "llm"))) <= 66


# ---------------------------------------------------------------- streams


def test_a_stream_sends_what_changed_and_numbers_alone_where_only_they_did() -> None:
    ones = [deployment(key(i)) for i in range(20)]
    telemetry = published(*ones)
    pages = LivePages(telemetry)
    before, _ = pages.news(None, None, NOW_S)
    ones[3] = deployment(key(3), rate_rps=8.5)
    ones[4] = deployment(key(4), target=6)
    telemetry.publish(
        telemetry.signals or Signals(),
        dataclasses.replace(
            telemetry.plan, tick=4, deployments=tuple(p for p, _ in ones), observations=tuple(o for _, o in ones)
        ),  # type: ignore[type-var]
        (), 0.003,
    )  # fmt: skip
    now, data = pages.news(None, before, NOW_S)
    news = json.loads(data)
    assert news["layout"] == before.layout == now.layout
    assert news["cells"]["row-3"][0] == "8.5"
    assert "row-3" not in news["inside"]
    assert "scaling up 4 → 6" in news["inside"]["row-4"]
    assert set(news["cells"]) == {"row-3"}
    assert pages.news(None, before, NOW_S)[1] is data
    assert json.loads(pages.news(None, now, NOW_S)[1])["inside"] == {}


@pytest.fixture
async def page_events(guarded: Guarded) -> AsyncIterator[aiohttp.ClientResponse]:
    await guarded.serve().start()
    await guarded.tick()
    headers = {"Authorization": f"Bearer {READ}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        url = f"http://127.0.0.1:{guarded.server.port}/api/v1/events?view=page"
        async with session.get(url) as answer:
            yield answer


async def test_a_page_of_another_layout_is_told_the_new_one_and_the_stream_ends(
    page_events: aiohttp.ClientResponse,
) -> None:
    assert page_events.content_type == "text/event-stream"
    lines = (await page_events.read()).decode().splitlines()
    assert lines[0] == "event: page"
    assert json.loads(lines[1].removeprefix("data: "))["layout"]


# ---------------------------------------------------------------- who may see it


async def asked(guarded: Guarded, path: str, **given: Any) -> tuple[int, str, Mapping[str, str]]:
    jar = aiohttp.DummyCookieJar()
    url = f"http://127.0.0.1:{guarded.server.port}{path}"
    method = given.pop("method", "GET")
    async with (
        aiohttp.ClientSession(cookie_jar=jar) as session,
        session.request(method, url, allow_redirects=False, **given) as answer,
    ):
        return answer.status, await answer.text(), answer.headers


async def test_without_a_token_the_page_is_a_form_and_nothing_else(guarded: Guarded) -> None:
    await guarded.serve().start()
    await guarded.tick()
    status, text, headers = await asked(guarded, "/")
    assert status == 401
    assert '<form method="post" action="/sign-in">' in text
    assert "chat" not in text
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert (await asked(guarded, "/api/v1/events?view=page"))[0] == 401
    assert (await asked(guarded, "/assets/live.css"))[0] == 200
    assert (await asked(guarded, "/assets/page.html"))[0] == 404


async def test_signing_in_gives_a_cookie_that_reads_and_changes_nothing_and_holds_no_token(guarded: Guarded) -> None:
    await guarded.serve().start()
    await guarded.tick()
    for wrong in ("", "no", TEAM_A):
        status, text, headers = await asked(guarded, "/sign-in", method="POST", data={"token": wrong})
        assert status in (401, 403)
        assert "Refused:" in text
        assert "Set-Cookie" not in headers
    for token in (READ, CHANGE):
        status, _, headers = await asked(guarded, "/sign-in", method="POST", data={"token": token})
        assert (status, headers["Location"]) == (303, "/")
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert token not in cookie
        sign = {"Cookie": cookie.partition(";")[0]}
        assert (await asked(guarded, "/", headers=sign))[0] == 200
        assert (await asked(guarded, "/api/v1/status", headers=sign))[0] == 200
        status, _, _ = await asked(guarded, "/api/v1/pause", method="POST", headers=sign)
        assert status == 401
    (guarded.folder / "read").write_text("another-token-0123456789\n")
    (guarded.folder / "change").write_text("changed-token-0123456789\n")
    assert (await asked(guarded, "/", headers=sign))[0] == 401


async def test_another_site_cannot_sign_a_browser_in(guarded: Guarded) -> None:
    await guarded.serve().start()
    headers = {"Sec-Fetch-Site": "cross-site"}
    assert (await asked(guarded, "/sign-in", method="POST", data={"token": READ}, headers=headers))[0] == 403


async def test_a_page_asked_by_another_name_is_refused(guarded: Guarded, tmp_path: Path) -> None:
    await guarded.serve().start()
    for path in ("/", "/sign-in", "/assets/live.js"):
        assert (await asked(guarded, path, headers={"Host": "evil.example"}))[0] == 421

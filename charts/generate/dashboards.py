"""The Grafana dashboards as code: what each shows, and the queries. `dashboards()` gives the JSON files.

Every metric is one of our own page, and every query is run against a real Prometheus in the tests. Followers run the
whole loop and export the same deployments as the leader, so queries take the `max` over pods.
"""

from __future__ import annotations

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from charts.generate.panels import BY, KEY, Chart, Page, Query, build

_KEY_VARIABLES = (
    ("namespace", "label_values(leadtime_replicas, namespace)"),
    ("service", 'label_values(leadtime_replicas{namespace=~"$namespace"}, service)'),
    ("app", 'label_values(leadtime_replicas{namespace=~"$namespace", service=~"$service"}, app)'),
    (
        "deployment",
        'label_values(leadtime_replicas{namespace=~"$namespace", service=~"$service", app=~"$app"}, deployment)',
    ),
)
_HORIZON = ("horizon", "label_values(leadtime_forecast_rps, horizon)")
_POOL = (("pool", "label_values(leadtime_warm_nodes, pool)"),)


def _top(metric: str, more: str = "") -> str:
    """The gauge by deployment, over pods."""
    return f"max by ({BY}) ({metric}{{{KEY}{more}}})"


def _rate(metric: str, more: str = "", by: str = BY, window: str = "$__rate_interval") -> str:
    return f"max by ({by}) (rate({metric}{{{KEY}{more}}}[{window}]))"


def _replicas(state: str) -> Query:
    return Query(_top("leadtime_replicas", f', state="{state}"'), "{{app}}/{{deployment}} " + state)


_SLO_MET = (
    f"1 - sum(max by ({BY}) (rate(leadtime_slo_misses_total{{{KEY}}}[1h])))"
    f" / sum(max by ({BY}) (rate(leadtime_slo_requests_total{{{KEY}}}[1h])) > 0)"
)
_COST = "sum(max by (pool) (leadtime_pool_cost_usd_per_hour))"


def _overview() -> Page:
    return Page(
        "leadtime-overview", "leadtime / Overview", "All deployments: demand, replicas, SLO, cost, and whether it acts.",
        (
            ("Now", (
                Chart("Requests within the SLO, last hour", "Share of requests whose first token and tokens came in time.",
                      "percentunit", [Query(_SLO_MET, "met")], "stat", 6, maximum=1.0, limit=0.99, low=True),
                Chart("Replicas running", "Of all deployments.", "short",
                      [Query(f"sum({_replicas('running').expr})", "running")], "stat", 6),
                Chart("Cost of nodes per hour", "Nodes that are there now, at the settings' prices.", "currencyUSD",
                      [Query(_COST, "now")], "stat", 6),
                Chart("Dry run", "1: it changes nothing.", "short", [Query("max(leadtime_dry_run)", "dry run")],
                      "stat", 6, maximum=1.0, limit=1.0),
            )),
            ("Demand and replicas", (
                Chart("Demand", "Requests per second that arrive, counted where they queue.", "reqps",
                      [Query(_top("leadtime_demand_rps"))]),
                Chart("Replicas", "Running, and what the plan wants.", "short",
                      [_replicas("running"), _replicas("planned")]),
                Chart("SLO attainment", "Share of the last ten minutes' requests within the SLO.", "percentunit",
                      [Query(_top("leadtime_slo_attainment_ratio"))], maximum=1.0),
                Chart("Waiting requests", "For a replica, or inside an engine.", "short",
                      [Query(_top("leadtime_waiting_requests"))]),
            )),
            ("What cold starts cost users", (
                Chart("Cold starts per hour", "Exposed: a request missed its first token while the replica was starting.",
                      "short", [Query(
                          f"3600 * sum by (outcome) ({_rate('leadtime_cold_starts_total', by=BY + ', outcome', window='1h')})",
                          "{{outcome}}")], stacked=True),
                Chart("Cost, and that of the peak fleet", "Per hour, now, and what the pools' most nodes would cost all the time.",
                      "currencyUSD", [Query(_COST, "now"),
                                      Query("sum(max by (pool) (leadtime_pool_peak_cost_usd_per_hour))", "peak, always")]),
            )),
        ), _KEY_VARIABLES,
    )  # fmt: skip


def _deployment() -> Page:
    horizon = ', horizon="$horizon"'
    return Page(
        "leadtime-deployment", "leadtime / Deployment", "One deployment: why it has the replicas that it has.",
        (
            ("Demand", (
                Chart("Demand and forecast", "What arrives, and quantiles of the largest rate within the horizon (seconds).",
                      "reqps", [Query(_top("leadtime_demand_rps"), "now"),
                                Query(f"max by (quantile) (leadtime_forecast_rps{{{KEY}{horizon}}})", "q{{quantile}}")]),
                Chart("Replicas that the forecast needs", "The forecast over what one replica carries.", "short",
                      [Query(f"max by (quantile) (leadtime_demand_replicas{{{KEY}{horizon}}})", "q{{quantile}}")]),
                Chart("What one replica carries", "Requests per second within the SLO, at today's mix of tokens.", "reqps",
                      [Query(_top("leadtime_replica_capacity_rps"))]),
                Chart("Failing requests", "Requests per second that fail: failing is not idleness.", "reqps",
                      [Query(_top("leadtime_error_rps"))]),
            )),
            ("Replicas", (
                Chart("Replicas by state", "Running, starting and draining.", "short",
                      [_replicas(s) for s in ("running", "starting", "draining")], stacked=True),
                Chart("Proposed, planned, and the limits", "What the policy wants, what the guards left of it, Serve's target.",
                      "short", [*(_replicas(s) for s in ("proposed", "planned", "target")),
                                Query(f"max by (bound) (leadtime_replica_limit{{{KEY}}})", "{{bound}}")]),
                Chart("Lead time, median", "From asking for a replica until it runs, by the path it takes.", "s",
                      [Query(f'max by (stage) (leadtime_lead_time_seconds{{{KEY}, quantile="0.5"}})', "{{stage}}")]),
                Chart("Lead time, 99 %", "The bad cases: what the plan has to cover.", "s",
                      [Query(f'max by (stage) (leadtime_lead_time_seconds{{{KEY}, quantile="0.99"}})', "{{stage}}")]),
                Chart("Cold starts", "Since the start of the controller.", "short",
                      [Query(f"max by (outcome) (leadtime_cold_starts_total{{{KEY}}})", "{{outcome}}")]),
                Chart("Blocked, or on old signals", "1: the plan cannot be applied; or the signals are too old to scale down.",
                      "short", [Query(_top("leadtime_blocked"), "blocked"),
                                Query(f"1 - min by ({BY}) (leadtime_signals_fresh{{{KEY}}})", "old signals")], maximum=1.0),
            )),
            ("Users", (
                Chart("SLO attainment", "Share of the last ten minutes' requests within the SLO, and the target.",
                      "percentunit", [Query(_top("leadtime_slo_attainment_ratio"), "attained"),
                                      Query(_top("leadtime_slo_target_ratio"), "target")], minimum=None, maximum=1.0),
                Chart("Error budget burn rate", "1: the budget is used up exactly; above: too fast.", "short",
                      [Query(
                          f"(sum by ({BY}) ({_rate('leadtime_slo_misses_total', window='1h')})"
                          f" / (sum by ({BY}) ({_rate('leadtime_slo_requests_total', window='1h')}) > 0))"
                          f" / on ({BY}) (1 - {_top('leadtime_slo_target_ratio')})", "last hour")], limit=1.0),
                Chart("Requests in flight", "Waiting, and ongoing.", "short",
                      [Query(_top("leadtime_waiting_requests"), "waiting"),
                       Query(_top("leadtime_ongoing_requests"), "ongoing")]),
                Chart("KV cache", "In use on the fullest replica.", "percentunit",
                      [Query(_top("leadtime_kv_cache_usage_ratio"))], maximum=1.0),
            )),
        ), (*_KEY_VARIABLES, _HORIZON),
    )  # fmt: skip


def _pools() -> Page:
    pool = '{pool=~"$pool"}'
    return Page(
        "leadtime-pools", "leadtime / Pools and cost", "Nodes of each pool, what they do, and what they cost.",
        (
            ("Nodes", (
                Chart("Nodes by what they do", "Busy, ready without work (pre-warmed), and arriving.", "short",
                      [Query(f"max by (pool, state) (leadtime_warm_nodes{pool})", "{{pool}} {{state}}")], stacked=True),
                Chart("Nodes that are wanted", "By the plan; beside what is there.", "short",
                      [Query(f"max by (pool) (leadtime_pool_wanted_nodes{pool})", "{{pool}} wanted"),
                       Query(f"sum by (pool) (max by (pool, state) (leadtime_warm_nodes{pool}))", "{{pool}} there")]),
                Chart("Out of stock", "1: the last request for a node was refused.", "short",
                      [Query(f"max by (pool) (leadtime_pool_refused{pool})", "{{pool}}")], maximum=1.0, limit=1.0),
                Chart("Idle share", "Ready nodes without work: the price of being early.", "percentunit",
                      [Query(f'sum by (pool) (max by (pool) (leadtime_warm_nodes{{pool=~"$pool", state="prewarmed"}}))'
                             f" / (sum by (pool) (max by (pool, state) (leadtime_warm_nodes{pool})) > 0)", "{{pool}}")],
                      maximum=1.0),
            )),
            ("Cost", (
                Chart("Cost per hour", "Nodes that are there, and the most nodes all the time.", "currencyUSD",
                      [Query(f"max by (pool) (leadtime_pool_cost_usd_per_hour{pool})", "{{pool}}"),
                       Query(f"max by (pool) (leadtime_pool_peak_cost_usd_per_hour{pool})", "{{pool}} peak, always")]),
                Chart("Cost in the time shown", "Summed over what was seen; a restart of the controller loses nothing.",
                      "currencyUSD",
                      [Query(f"sum by (pool) (max by (pool) (increase(leadtime_cost_usd_total{pool}[$__range])))",
                             "{{pool}}")]),
                Chart("Saved against the peak fleet", "Share of the bill that a constant peak fleet would have.",
                      "percentunit", [Query(
                          f"1 - max by (pool) (avg_over_time(leadtime_pool_cost_usd_per_hour{pool}[$__range]))"
                          f" / max by (pool) (leadtime_pool_peak_cost_usd_per_hour{pool})", "{{pool}}")], maximum=1.0),
                Chart("GPU budget", "Most GPUs of a kind that may be used.", "short",
                      [Query("max by (kind) (leadtime_gpu_budget)", "{{kind}}")]),
            )),
        ), _POOL,
    )  # fmt: skip


def _controller() -> Page:
    return Page(
        "leadtime-controller", "leadtime / Controller health", "Whether the controller sees, decides and can act.",
        (
            ("State", (
                Chart("Leaders", "Exactly one controller acts.", "short",
                      [Query("sum by (job) (leadtime_leader)", "{{job}}")], "stat", 6),
                Chart("Since the last decision", "Of the controller that is furthest behind.", "s",
                      [Query("max by (job) (time() - leadtime_last_decision_timestamp_seconds)", "{{job}}")],
                      "stat", 6, limit=60.0),
                Chart("Paused", "1: a person stopped it from changing anything.", "short",
                      [Query("max by (job) (leadtime_paused)", "{{job}}")], "stat", 6, maximum=1.0, limit=1.0),
                Chart("Controllers by version", "Pods that are there.", "short",
                      [Query("count by (version) (leadtime_build_info)", "{{version}}")], "stat", 6),
            )),
            ("Sources", (
                Chart("Sources up", "1 while a source answers.", "short",
                      [Query("min by (source) (leadtime_source_up)", "{{source}}")], maximum=1.0),
                Chart("Age of what sources gave last", "Old signals never scale down.", "s",
                      [Query("max by (source) (leadtime_source_age_seconds)", "{{source}}")], limit=60.0),
            )),
            ("Decisions", (
                Chart("Time that a decision takes", "Median and 99 %.", "s", [
                    Query(f"histogram_quantile({q}, sum by (le) (rate(leadtime_step_seconds_bucket[5m])))", f"{name}")
                    for q, name in ((0.5, "median"), (0.99, "99 %"))]),
                Chart("Ticks skipped, decisions failed", "Both should be zero.", "short",
                      [Query("sum(increase(leadtime_missed_ticks_total[5m]))", "skipped"),
                       Query("sum(increase(leadtime_failed_steps_total[5m]))", "failed")]),
                Chart("Guards", "How often each changed a number, per minute.", "short",
                      [Query("60 * max by (name) (rate(leadtime_guard_total[5m]))", "{{name}}")]),
                Chart("Writes", "By what came of them, per minute.", "short",
                      [Query("60 * sum by (actuator, outcome) (rate(leadtime_actuator_total[5m]))",
                             "{{actuator}} {{outcome}}")]),
            )),
        ),
    )  # fmt: skip


def _forecast() -> Page:
    promised = f'leadtime_forecast_rps{{{KEY}, horizon="$horizon"}} offset ${{horizon}}s'
    came = f"max_over_time(leadtime_demand_rps{{{KEY}}}[${{horizon}}s])"
    join = f"on ({BY}) group_left ()"
    return Page(
        "leadtime-forecast", "leadtime / Forecast quality", "Whether what was promised is what came.",
        (
            ("Record", (
                Chart("Coverage", "Share of recent windows whose demand stayed under the quantile: should be the quantile.",
                      "percentunit", [Query(f"max by ({BY}, quantile) (leadtime_forecast_coverage_ratio{{{KEY}}})",
                                            "{{app}}/{{deployment}} q{{quantile}}")], maximum=1.0),
                Chart("Relied on", "0: history is too short or the record is off, so the reactive rule decides.", "short",
                      [Query(f"min by ({BY}) (leadtime_forecast_calibrated{{{KEY}}})")], maximum=1.0),
            )),
            ("Promised and came", (
                Chart("Promised one horizon ago, and came", "The largest rate within the horizon (seconds).", "reqps",
                      [Query(f"max by ({BY}) ({came})", "{{app}}/{{deployment}} came"),
                       Query(f"max by ({BY}, quantile) ({promised})", "{{app}}/{{deployment}} promised q{{quantile}}")]),
                Chart("Promise over what came", "Above 1: more than came; the upper quantiles should mostly be there.",
                      "short", [Query(
                          f"max by ({BY}, quantile) ({promised}) / {join} (max by ({BY}) ({came}) > 0)",
                          "{{app}}/{{deployment}} q{{quantile}}")], limit=1.0, low=True),
                Chart("Share of the time that promises held", "Over the last hour; should be the quantile.", "percentunit",
                      [Query(
                          f"avg_over_time((max by ({BY}, quantile) ({promised}) >= bool {join} max by ({BY}) ({came}))"
                          "[1h:30s])", "{{app}}/{{deployment}} q{{quantile}}")], maximum=1.0),
                Chart("Demand", "What is forecast.", "reqps", [Query(_top("leadtime_demand_rps"))]),
            )),
        ), (*_KEY_VARIABLES, _HORIZON),
    )  # fmt: skip


PAGES = (_overview, _deployment, _pools, _controller, _forecast)


def dashboards() -> dict[str, str]:
    """File name (without .json) -> JSON text, the same bytes each time."""
    pages = [page() for page in PAGES]
    encoder = JSONEncoder(sort_keys=True, indent=2)
    return {page.uid.removeprefix("leadtime-"): encoder.encode(build(page)) + "\n" for page in pages}

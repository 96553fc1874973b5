"""What fires each alert and what does not, as promtool's unit tests take it. Data only.

Values are promtool's: `a+bxn` = n more values, each b more; `_` = no sample; one value each `step`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

RELEASE = 'cluster="prod", controller_namespace="lt", controller_release="demo"'
"""The controller of the cases: what the chart's monitors and the Prometheus of a cluster add to every series."""
KEY = f'namespace="llm", service="svc", app="chat", deployment="llm", pod="a", {RELEASE}'
KEY_B = KEY.replace('pod="a"', 'pod="b"')
ELSE = KEY.replace('service="svc"', 'service="other"')
POD = f'namespace="lt", job="leadtime", pod="a", {RELEASE}'
OTHER = POD.replace('pod="a"', 'pod="b"')
OF_RELEASE = {"cluster": "prod", "controller_namespace": "lt", "controller_release": "demo"}
OF_KEY = {"namespace": "llm", "service": "svc", "app": "chat", "deployment": "llm", **OF_RELEASE}
OF_JOB = {"namespace": "lt", **OF_RELEASE}


@dataclass(frozen=True, slots=True)
class Case:
    """`at`: when to look; `labels`: of the alert that must fire (severity aside), None = it must not."""

    alert: str
    what: str
    series: dict[str, str]
    at: str
    labels: dict[str, str] | None = field(default=None)
    step: str = "1m"
    """Between two samples, and between two evaluations."""


def _slo(misses: str, requests: str = "0+600x600") -> dict[str, str]:
    return {
        f"leadtime_slo_misses_total{{{KEY}}}": misses,
        f"leadtime_slo_requests_total{{{KEY}}}": requests,
        f"leadtime_slo_target_ratio{{{KEY}}}": "0.99x600",
    }


def _replicas(**states: str) -> dict[str, str]:
    return {f'leadtime_replicas{{{KEY}, state="{state}"}}': values for state, values in states.items()}


def _actuator(outcome: str, values: str) -> dict[str, str]:
    return {f'leadtime_actuator_total{{{POD}, actuator="ray_serve", outcome="{outcome}"}}': values}


CASES = (
    Case("LeadtimeSloBurnFast", "20 % missed for an hour", _slo("0+120x600"), "70m", OF_KEY),
    Case("LeadtimeSloBurnFast", "2 % missed: too much, but not fast", _slo("0+12x600"), "70m"),
    Case("LeadtimeSloBurnFast", "a burst that is over", _slo("0+120x50 6000+0x550"), "70m"),
    Case("LeadtimeSloBurnFast", "nobody asks", _slo("0x600", "0x600"), "70m"),
    Case("LeadtimeSloBurnSlow", "8 % missed for hours", _slo("0+48x600"), "7h", OF_KEY),
    Case("LeadtimeSloBurnSlow", "1 % missed, as promised", _slo("0+6x600"), "7h"),
    Case("LeadtimeForecastOff", "not calibrated for 7 hours of traffic", {
        f"leadtime_forecast_calibrated{{{KEY}}}": "0x600", f"leadtime_demand_rps{{{KEY}}}": "5x600"}, "7h", OF_KEY),
    Case("LeadtimeForecastOff", "young, then calibrated", {
        f"leadtime_forecast_calibrated{{{KEY}}}": "0x120 1x480", f"leadtime_demand_rps{{{KEY}}}": "5x600"}, "7h"),
    Case("LeadtimeForecastOff", "nobody asks", {
        f"leadtime_forecast_calibrated{{{KEY}}}": "0x600", f"leadtime_demand_rps{{{KEY}}}": "0x600"}, "7h"),
    Case("LeadtimeCapped", "wants 9, may have 8", _replicas(proposed="9x60", planned="8x60"), "20m", OF_KEY),
    Case("LeadtimeCapped", "a few minutes only", _replicas(proposed="9x8 8x60", planned="8x60"), "20m"),
    Case("LeadtimeCapped", "held above the wish by stabilisation", _replicas(proposed="3x60", planned="8x60"), "20m"),
    Case("LeadtimeFlapping", "up and down every minute", _replicas(planned="1 2 1 2 1 2 1 2 1 2" + " 1 2" * 60), "90m", OF_KEY),
    Case("LeadtimeFlapping", "a day's climb", _replicas(planned="1x20 2x20 3x20 4x20 5x60"), "90m"),
    Case("LeadtimeBlocked", "Serve's autoscaler in the way", {
        f"leadtime_blocked{{{KEY}}}": "1x60", f"leadtime_dry_run{{{POD}}}": "0x60"}, "15m", OF_KEY),
    Case("LeadtimeBlocked", "beside Serve's autoscaler in dry run", {
        f"leadtime_blocked{{{KEY}}}": "1x60", f"leadtime_dry_run{{{POD}}}": "1x60"}, "15m"),
    Case("LeadtimeServiceBlind", "one service is not seen, another is", {
        f"leadtime_signals_fresh{{{KEY}}}": "1x5 0x60", f"leadtime_signals_fresh{{{ELSE}}}": "1x60"}, "20m", OF_KEY),
    Case("LeadtimeServiceBlind", "one of two pods does not see it", {
        f"leadtime_signals_fresh{{{KEY}}}": "0x60", f"leadtime_signals_fresh{{{KEY_B}}}": "1x60"}, "20m", OF_KEY),
    Case("LeadtimeServiceBlind", "held on what is not known while all sources answer", {
        f"leadtime_signals_fresh{{{KEY}}}": "0x60", **_replicas(target="3x60"),
        f'leadtime_source_up{{{POD}, source="ray_dashboard"}}': "1x60"}, "20m", OF_KEY),
    Case("LeadtimeServiceBlind", "a head that was restarted", {f"leadtime_signals_fresh{{{KEY}}}": "1x5 0x5 1x60"}, "20m"),
    Case("LeadtimeServiceBlind", "scaled to none, which reports nothing", {
        f"leadtime_signals_fresh{{{KEY}}}": "0x60", **_replicas(target="0x60")}, "20m"),
    Case("LeadtimeCondition", "a node is silent for a quarter of an hour", {
        f'leadtime_condition{{{KEY}, condition="node_silent", severity="warning"}}': "1x60"},
        "15m", {**OF_KEY, "condition": "node_silent"}),
    Case("LeadtimeCondition", "it is over after five minutes", {
        f'leadtime_condition{{{KEY}, condition="node_silent", severity="warning"}}': "1x5 _x60"}, "15m"),
    Case("LeadtimeCondition", "a renewed certificate cannot be used", {
        f'leadtime_condition{{{POD}, condition="certificate_not_renewed", severity="warning"}}': "1x60"},
        "15m", {**OF_JOB, "condition": "certificate_not_renewed"}),
    Case("LeadtimeConditionCritical", "Serve does not take a level", {
        f'leadtime_condition{{{KEY}, condition="not_done", severity="critical"}}': "1x60"},
        "5m", {**OF_KEY, "condition": "not_done"}),
    Case("LeadtimeConditionCritical", "another deployment's warning", {
        f'leadtime_condition{{{ELSE}, condition="node_silent", severity="warning"}}': "1x60"}, "15m"),
    Case("LeadtimeStockOut", "refused for 15 minutes", {
        f'leadtime_pool_refused{{pool="h100", {POD}}}': "1x60"}, "15m", {"pool": "h100", **OF_JOB}),
    Case("LeadtimeStockOut", "refused once", {
        f'leadtime_pool_refused{{pool="h100", {POD}}}': "0x5 1x5 0x50"}, "15m"),
    Case("LeadtimeAbsent", "gone after ten minutes", {
        f"leadtime_build_info{{{POD}}}": "1x10", f"leadtime_build_info{{{OTHER}}}": "1x4"}, "25m", OF_JOB),
    Case("LeadtimeAbsent", "one of two pods gone", {
        f"leadtime_build_info{{{POD}}}": "1x10", f"leadtime_build_info{{{OTHER}}}": "1x60"}, "25m"),
    Case("LeadtimeAbsent", "replaced within four minutes, by another version", {
        f'leadtime_build_info{{{POD}, version="1"}}': "1x10", f'leadtime_build_info{{{OTHER}, version="2"}}': "_x13 1x60"}, "20m"),
    Case("LeadtimeAbsent", "there", {f"leadtime_build_info{{{POD}}}": "1x60"}, "10m"),
    Case("LeadtimeNoLeader", "two followers", {
        f"leadtime_leader{{{POD}}}": "0x60", f"leadtime_leader{{{OTHER}}}": "0x60"}, "5m", OF_JOB),
    Case("LeadtimeNoLeader", "handed over within a minute", {
        f"leadtime_leader{{{POD}}}": "1x3 0x60", f"leadtime_leader{{{OTHER}}}": "0x4 1x60"}, "6m"),
    Case("LeadtimeTwoLeaders", "both lead", {
        f"leadtime_leader{{{POD}}}": "1x60", f"leadtime_leader{{{OTHER}}}": "1x60"}, "5m", OF_JOB),
    Case("LeadtimeTwoLeaders", "one leads", {
        f"leadtime_leader{{{POD}}}": "1x60", f"leadtime_leader{{{OTHER}}}": "0x60"}, "5m"),
    Case("LeadtimeNoDecision", "the same decision for ten minutes", {
        f"leadtime_last_decision_timestamp_seconds{{{POD}}}": "0x60"}, "10m", {**OF_JOB, "pod": "a"}),
    Case("LeadtimeNoDecision", "decides", {
        f"leadtime_last_decision_timestamp_seconds{{{POD}}}": "0+60x60"}, "10m"),
    Case("LeadtimeOutage", "nothing can be read", {
        f'leadtime_outage{{{POD}, kind="reading"}}': "1x60"}, "5m", {**OF_JOB, "kind": "reading"}),
    Case("LeadtimeOutage", "a hiccup", {
        f'leadtime_outage{{{POD}, kind="reading"}}': "1 1 0x60"}, "5m"),
    Case("LeadtimeStandsIn", "the controller is gone", {f"leadtime_stands_in{{{KEY}}}": "0x3 1x60"}, "5m", OF_KEY),
    Case("LeadtimeStandsIn", "the controller is back", {f"leadtime_stands_in{{{KEY}}}": "1x3 0x60"}, "5m"),
    Case("LeadtimeStandsIn", "no standby", {f"leadtime_blocked{{{KEY}}}": "1x60"}, "5m"),
    Case("LeadtimeSourceStale", "down", {
        f'leadtime_source_up{{{POD}, source="ray"}}': "0x60"}, "5m", {**OF_JOB, "source": "ray"}),
    Case("LeadtimeSourceStale", "up, but what it gives is old", {
        f'leadtime_source_up{{{POD}, source="ray"}}': "1x60",
        f'leadtime_source_age_seconds{{{POD}, source="ray"}}': "300x60"}, "5m", {**OF_JOB, "source": "ray"}),
    Case("LeadtimeSourceStale", "a hiccup", {
        f'leadtime_source_up{{{POD}, source="ray"}}': "1 0 1x60",
        f'leadtime_source_age_seconds{{{POD}, source="ray"}}': "3x60"}, "5m"),
    Case("LeadtimeSourceStale", "the broker, which has an alert of its own", {
        f'leadtime_source_up{{{POD}, source="mqtt_hints"}}': "0x60",
        f'leadtime_source_age_seconds{{{POD}, source="mqtt_hints"}}': "300x60"}, "20m"),
    Case("LeadtimeMqttDown", "no broker for ten minutes", {
        f'leadtime_source_up{{{POD}, source="mqtt_hints"}}': "0x60"}, "10m", OF_JOB),
    Case("LeadtimeMqttDown", "a broker that was restarted", {
        f'leadtime_source_up{{{POD}, source="mqtt_hints"}}': "1 1 0 0 1x60"}, "10m"),
    Case("LeadtimeMqttDown", "no broker in the settings", {
        f'leadtime_source_up{{{POD}, source="ray"}}': "0x60"}, "10m"),
    Case("LeadtimeActuatorFailing", "plans that no broker takes", {
        f'leadtime_actuator_total{{{POD}, actuator="mqtt_plans", outcome="unavailable"}}': "0+12x60"}, "25m"),
    Case("LeadtimeActuatorFailing", "forbidden again and again", _actuator("forbidden", "0+12x60"), "25m",
         {**OF_JOB, "actuator": "ray_serve", "outcome": "forbidden"}),
    Case("LeadtimeActuatorFailing", "all goes well", _actuator("ok", "0+12x60"), "25m"),
    Case("LeadtimeActuatorFailing", "a policy inside Serve is to follow", _actuator("published", "0+12x60"), "25m"),
    Case("LeadtimeActuatorFailing", "one conflict", _actuator("conflict", "0 1x60"), "25m"),
    Case("LeadtimeDryRunForgotten", "eight days", {f"leadtime_dry_run{{{POD}}}": "1x200"}, "192h", OF_JOB, "1h"),
    Case("LeadtimeDryRunForgotten", "installed two days ago", {f"leadtime_dry_run{{{POD}}}": "_x144 1x60"}, "192h", step="1h"),
    Case("LeadtimeDryRunForgotten", "acts since yesterday", {f"leadtime_dry_run{{{POD}}}": "1x168 0x40"}, "192h", step="1h"),
    Case("LeadtimePausedLong", "five hours", {f"leadtime_paused{{{POD}}}": "1x600"}, "5h", OF_JOB),
    Case("LeadtimePausedLong", "an hour", {f"leadtime_paused{{{POD}}}": "1x60 0x600"}, "5h"),
)  # fmt: skip

"""docs/serve-policy.md: its Serve config and its values are right, and its table of arguments is whole."""

from __future__ import annotations

import json
import re
import textwrap

import jsonschema
import yaml

from autoscaler.core.types import ServeAutoscaling
from leadtime_serve_policy import PolicySettings, settings_of
from tests.serve_policy.test_wheel import ROOT

PAGE = (ROOT / "docs" / "serve-policy.md").read_text(encoding="utf-8")
BLOCKS = [yaml.safe_load(textwrap.dedent(text)) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


def test_the_serve_config_names_our_policy_with_right_arguments_and_no_delays() -> None:
    (deployment,) = BLOCKS[0]["applications"][0]["deployments"]
    scaling = deployment["autoscaling_config"]
    assert ServeAutoscaling(scaling["policy"]["policy_function"]).follows_plan
    assert settings_of(scaling["policy"]["policy_kwargs"])[1] == []
    assert (scaling["upscale_delay_s"], scaling["downscale_delay_s"]) == (0, 0)


def test_the_values_fit_the_charts_schema() -> None:
    schema = json.loads((ROOT / "charts" / "leadtime" / "values.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(BLOCKS[1], schema)


def test_every_argument_is_in_the_table_with_its_default() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ([^|]+) \|", PAGE, re.MULTILINE)
    shown = {name: default for names, default in rows for name in re.findall(r"`(\w+)`", names)}
    assert set(PolicySettings._fields) <= set(shown)
    defaults = PolicySettings()
    assert shown["upscale_delay_s"].strip() == f"{defaults.upscale_delay_s:g}, {defaults.downscale_delay_s:g}"
    assert shown["timeout_s"].strip() == f"{defaults.timeout_s:g}"

"""The tables of policies' options in the pages hold every option, as it is declared."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from autoscaler.settings.policy_reference import BEGIN, END, OWN, PAGES, main, options_table, unit_of
from autoscaler.settings.reference import renewed
from policies.options import described
from policies.registry import options_of, policy_names

DOCS = Path(__file__).resolve().parents[3] / "docs"
BUILT_IN = [name for names in PAGES.values() for name in names]


@pytest.mark.parametrize("page", PAGES)
def test_the_table_in_the_page_is_up_to_date(page: str) -> None:
    document = (DOCS / page).read_text(encoding="utf-8")
    renew = f"run: python -m autoscaler.settings.policy_reference docs/{page}"
    assert renewed(document, options_table(PAGES[page]), BEGIN, END) == document, renew


@pytest.mark.parametrize("policy", BUILT_IN)
def test_every_option_has_a_row_with_its_policy_what_is_allowed_and_what_it_does(policy: str) -> None:
    rows = [line.strip("| ").split(" | ") for line in options_table([policy]).splitlines()[2:] if line.startswith("|")]
    kind = options_of(policy)
    assert kind is not None
    assert [row[0] for row in rows] == [f"`{f.name}`" for f in fields(kind)]
    for row in rows:
        assert len(row) == 5
        assert all(row[i] for i in (2, 3, 4)), row


@pytest.mark.parametrize("policy", BUILT_IN)
def test_every_option_that_is_a_number_has_a_unit(policy: str) -> None:
    kind = options_of(policy)
    assert kind is not None
    for one in described(kind):
        if "number" in one.allowed:
            assert unit_of(one.name), one.name


def test_options_that_policies_share_have_one_row_that_names_them_all() -> None:
    table = options_table(PAGES["policy-options.md"])
    assert "| `hpa_ongoing`, `hpa_queue`, `hpa_kv`, `phpa`, `hindsight` | `tolerance_fraction` | share |" in table
    assert "Without options: `oracle`." in table


def test_every_built_in_policy_is_on_one_of_the_pages() -> None:
    assert sorted(BUILT_IN) == sorted(policy_names())
    assert PAGES["policy-options.md"][0] == OWN


def test_a_page_is_renewed_by_its_name(tmp_path: Path) -> None:
    page = tmp_path / "policy-options.md"
    page.write_text(f"before\n{BEGIN}\nan earlier table\n{END}\nafter\n", encoding="utf-8")
    assert main([str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "an earlier table" not in text
    assert "| `predictive` | `follow` |  | true or false | `true` |" in text
    assert text.endswith("after\n")

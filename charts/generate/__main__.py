"""`python -m charts.generate`: writes every generated file of the chart, and the tables of two pages of the docs."""

from __future__ import annotations

from pathlib import Path

from charts.generate.files import generated_files, with_fields, with_values

ROOT = Path(__file__).resolve().parents[2]
VALUES_PAGE, FIELDS_PAGE = ROOT / "docs" / "chart-values.md", ROOT / "docs" / "autoscalers.md"


def main() -> None:
    for name, text in generated_files():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for page, renewed in ((VALUES_PAGE, with_values), (FIELDS_PAGE, with_fields)):
        page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

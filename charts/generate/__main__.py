"""`python -m charts.generate`: writes every generated file of the chart and docs/chart-values.md."""

from __future__ import annotations

from pathlib import Path

from charts.generate.files import generated_files, with_values

ROOT = Path(__file__).resolve().parents[2]
VALUES_PAGE = ROOT / "docs" / "chart-values.md"


def main() -> None:
    for name, text in generated_files():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    document = VALUES_PAGE.read_text(encoding="utf-8")
    VALUES_PAGE.write_text(with_values(document), encoding="utf-8")


if __name__ == "__main__":
    main()

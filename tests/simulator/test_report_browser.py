"""The report in a real browser: it fits, and every plot can be had as a table."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from simulator.experiments.league import judge
from simulator.report.page import render
from tests.real import require
from tests.simulator.experiments.test_league import run

MEASURE = """<script>
const all = [...document.querySelectorAll("details")], closed = all.every(d => !d.open);
const wide = document.documentElement.scrollWidth > window.innerWidth;
all.forEach(d => d.querySelector("summary").click());
setTimeout(() => {
  const shown = all.filter(d => d.open && d.querySelector("table").offsetHeight > 40).length;
  document.title = JSON.stringify({closed, wide, plots: all.length, shown});
}, 0);
</script>"""


def measured(page: str, folder: Path, width: int) -> dict[str, str]:
    """What a browser says of the page at a width."""
    file = folder / "page.html"
    file.write_text(page.replace("</body>", MEASURE + "</body>"), encoding="utf-8")
    words = [require("chromium", "chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    words += [f"--user-data-dir={folder / 'browser'}", f"--window-size={width},900", "--virtual-time-budget=2000"]
    ran = subprocess.run([*words, file.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r"<title>\{(.*?)\}</title>", ran.stdout)
    assert found is not None, ran.stderr
    return dict(re.findall(r'"(\w+)":(\w+)', found.group(1)))


def page() -> str:
    runs = [run("predictive", s, 80.0, 0.995) for s in (1, 2)] + [run("static", s, 100.0, 1.0, True) for s in (1, 2)]
    return render(judge(runs), "leadtime compare s.yaml")


def test_it_fits_a_desk_and_a_phone_and_its_tables_open(tmp_path: Path) -> None:
    for width in (1280, 500):  # a headless window is at least 500 wide
        folder = tmp_path / str(width)
        folder.mkdir()
        assert measured(page(), folder, width) == {"closed": "true", "wide": "false", "plots": "4", "shown": "4"}


def test_the_tables_say_what_the_plots_show() -> None:
    text = page()
    assert text.count("<summary>Show as table</summary>") == 2
    pareto, strips = re.findall(r"<details>.*?</details>", text)
    assert "<td>$80</td><td>$80 to $80</td>" in pareto
    assert '<th scope="row">static peak (knows the traffic)</th>' in pareto
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</th>(.*?)</tr>", strips)
    assert [name for name, _ in rows][:3] == ["0 min", "5 min", "10 min"]
    third = dict(rows)["40 min"]  # the tick that ends at 45 min: 30 req/s, 3 replicas, 2,000 of 27,000 missed
    assert third.startswith("<td>30</td><td>3</td><td>7.41")

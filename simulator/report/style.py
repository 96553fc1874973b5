"""The report's style sheet: colours that also tell apart in shape, light and dark, and on paper."""

from __future__ import annotations

STYLE = """
:root{--page:#f5f6f8;--surface:#fff;--line:#dde1e8;--grid:#e9ecf1;--ink:#12161d;--ink2:#454e5c;--ink3:#667080;
--accent:#1a5fb4;--region:#1a5fb40d;--run:#5b6b84;--carry:#5b6b8433;--bad:#b3261e;--miss:#d5453b;--warn:#8f5a00;
--fan:#1a5fb438;--far:#1a5fb41f;--start:#c77f12;--drain:#b9c1ce;--warnbg:#fff4dc;--warnedge:#c77f12}
@media (prefers-color-scheme:dark){:root{--page:#0d1015;--surface:#151920;--line:#323945;--grid:#222833;--ink:#ebeef3;
--ink2:#b1bac7;--ink3:#8a94a3;--accent:#7fb2ff;--region:#7fb2ff14;--run:#8596b0;--carry:#8596b033;--bad:#ff8f82;
--miss:#e5604f;--fan:#7fb2ff47;--far:#7fb2ff29;--start:#d9972f;--drain:#4b5565;--warn:#f2b652;--warnbg:#2a2110;--warnedge:#d9972f}}
@media print{:root{--page:#fff;--surface:#fff;--line:#dde1e8;--grid:#e9ecf1;--ink:#12161d;--ink2:#454e5c;
--ink3:#667080;--accent:#1a5fb4;--region:#1a5fb40d;--run:#5b6b84;--carry:#5b6b8433;--bad:#b3261e;--miss:#d5453b;
--fan:#1a5fb438;--far:#1a5fb41f;--start:#c77f12;--drain:#b9c1ce}
body{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:14px/1.45 ui-sans-serif,system-ui,-apple-system,"Segoe UI",
Roboto,"Noto Sans","DejaVu Sans",sans-serif;font-variant-numeric:tabular-nums}
main{max-width:1100px;margin:0 auto;padding:24px 24px 40px;background:var(--surface);min-height:100vh}
.meta{color:var(--ink3);font-size:12px;margin:0 0 4px}
.title{font-size:28px;line-height:1.15;font-weight:650;letter-spacing:-.02em;margin:0 0 12px;max-width:24em}
.sentence{font-size:16px;color:var(--ink2);max-width:46em;margin:0 0 24px}
h3{font-size:16px;font-weight:650;margin:32px 0 4px;break-after:avoid}
h4{font-size:14px;margin:16px 0 4px}
.caption,.axis{font-size:12px;color:var(--ink2);margin:0 0 16px;max-width:60em}
.axis{margin:28px 0 0 76px;color:var(--ink3)}
.warn{background:var(--warnbg);color:var(--warn);border:1px solid var(--warnedge);border-radius:6px;padding:8px 12px}
.plot{position:relative}
.plot svg{position:absolute;inset:0;width:100%;height:100%;overflow:visible}
.plot span{position:absolute;white-space:nowrap;font-size:11px;color:var(--ink3)}
.pareto{height:320px;margin:8px 24px 0 76px}
.pareto .tick.y{transform:translateY(-50%)}
.pareto .tick.x{transform:translateX(-50%)}
.pareto .label{font-size:13px;color:var(--ink);transform:translateY(-50%);text-shadow:0 0 3px var(--surface),0 0 3px
var(--surface)}
.pareto .after{margin-left:12px}.pareto .ahead{margin-right:12px}
.pareto .label.own,.own{font-weight:650}
.pareto .note{color:var(--accent);font-size:12px}
path{vector-effect:non-scaling-stroke;fill:none}
.grid{stroke:var(--grid)}.region{fill:var(--region)}.target{stroke:var(--accent);stroke-dasharray:4 3;stroke-width:1.5}
.dot{stroke:var(--run);stroke-width:11;stroke-linecap:round}.dot.own{stroke:var(--accent);stroke-width:13}
.whisker{stroke:var(--run);stroke-width:1}
.carry{fill:var(--carry)}.carry-line{stroke:var(--run);stroke-width:1}.traffic{stroke:var(--ink);stroke-width:1.2}
.missed{fill:var(--miss)}
.fan{fill:var(--fan)}.far{fill:var(--far)}.median{stroke:var(--accent);stroke-dasharray:1 3;stroke-width:1.5}
.running{fill:var(--run)}.starting{fill:var(--start)}.draining{fill:var(--drain)}.prewarmed{fill:var(--accent)}
.accent{color:var(--accent)}.amber{color:var(--warn)}.pale{color:var(--ink3)}
.course{margin:0 0 6px}.course .part{border-top:0;padding:4px 0}.course table{margin-top:8px}
.strip{display:grid;grid-template-columns:150px 1fr 150px;gap:16px;border-top:1px solid var(--line);padding:8px 0 6px;
break-inside:avoid}
.strip .who span{display:block;color:var(--ink2);font-size:12px}
.day{height:52px}
.marks{position:relative;height:12px;margin-top:3px}
.marks i{position:absolute;transform:translateX(-50%)}
i.ring,i.square{display:inline-block;width:7px;height:7px}
i.ring{border:1.3px solid var(--run);border-radius:50%}
i.square{background:var(--miss)}
.felt{font-size:12px;color:var(--ink2)}
.bad{color:var(--bad)}.grey{color:var(--run)}.ink{color:var(--ink)}
.clock{border-top:0;padding:0}.clock .plot{height:16px}
.clock .t1,.clock .t2,.clock .t3{transform:translateX(-50%)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13px}
th,td{text-align:right;padding:6px 0 6px 14px;border-bottom:1px solid var(--line);vertical-align:bottom;font-weight:400}
thead th{font-size:11px;color:var(--ink3);border-bottom:1.5px solid var(--ink2);line-height:1.3}
th:first-child{text-align:left;padding-left:0;white-space:nowrap}
tr.own th,tr.own td{font-weight:650}
.soft{color:var(--ink3);font-weight:400;font-size:12px}
article+article{margin-top:56px;border-top:2px solid var(--ink2);padding-top:24px}
details{margin:8px 0 0;font-size:13px}
summary{cursor:pointer;color:var(--accent);font-size:12px;min-height:24px;padding:4px 0}
summary:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.clock+details{margin-top:16px}
footer{margin-top:40px;border-top:1px solid var(--line);padding-top:8px;font-size:12px;color:var(--ink2)}
footer p{margin:4px 0}code{font-size:12px}
@media (max-width:720px){main{padding:16px}.title{font-size:22px}.strip{grid-template-columns:1fr;gap:4px}
.clock{display:none}.pareto{margin-left:60px;height:260px}}
"""

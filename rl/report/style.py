"""The report's style sheet and its one script (values under the pointer); both travel inside the page."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --bg:#f6f7f9; --card:#fff; --ink:#1b1f27; --dim:#667085; --edge:#e3e6ec;
  --good:#0f8a4f; --good-bg:#e3f5eb; --bad:#c4322b; --bad-bg:#fdeae8; --warn:#8a5a00; --warn-bg:#fff3d6;
  --c0:#3563e9; --c1:#e8710a; --c2:#0f9d76; --c3:#b4329e; --c4:#c9a200; --c5:#d63d3d; --c6:#7a5af0; --c7:#6b7785; }
@media (prefers-color-scheme: dark) { :root { --bg:#12151b; --card:#1b1f28; --ink:#e8ebf1; --dim:#98a2b3;
  --edge:#2d3340; --good:#4cd08b; --good-bg:#12382a; --bad:#ff8a80; --bad-bg:#43201e; --warn:#ffcf66; --warn-bg:#3d3013;
  --c0:#7d9cff; --c1:#ff9d4d; --c2:#3fd0a5; --c3:#e07bd0; --c4:#e8c84a; --c5:#ff7b7b; --c6:#a996ff; --c7:#9aa6b4; } }
* { box-sizing: border-box; }
body { margin:0; background:var(--bg); color:var(--ink); font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif; }
main { max-width:1120px; margin:0 auto; padding:36px 20px 64px; }
h1 { font-size:30px; line-height:1.2; margin:0 0 4px; letter-spacing:-.02em; }
h2 { font-size:19px; margin:44px 0 14px; letter-spacing:-.01em; }
h3 { font-size:14px; margin:0 0 8px; font-weight:600; }
.sub, .empty, .note { color:var(--dim); }
.sub { margin:0 0 24px; } .note { font-size:13px; margin:8px 0 0; }
.card .note { margin:2px 0 0; } .empty { font-size:13px; margin:8px 0; }
.cards { display:grid; grid-template-columns:repeat(auto-fit,minmax(190px,1fr)); gap:14px; }
.card { background:var(--card); border:1px solid var(--edge); border-radius:12px; padding:16px 18px; min-width:0; }
.card .name { color:var(--dim); font-size:13px; }
.card .big { font-size:27px; font-weight:650; letter-spacing:-.02em; font-variant-numeric:tabular-nums; }
.card .big small { color:var(--dim); font-size:18px; font-weight:500; }
.up { color:var(--good); } .down { color:var(--bad); }
.charts { display:grid; grid-template-columns:repeat(auto-fit,minmax(320px,1fr)); gap:14px; }
.chart { display:block; width:100%; height:auto; overflow:visible; }
.chart text { font-size:13px; fill:var(--dim); font-variant-numeric:tabular-nums; }
.chart .grid { stroke:var(--edge); } .chart polyline { fill:none; stroke-linejoin:round; stroke-linecap:round; }
.chart .line { stroke-width:2; } .chart .main { stroke-width:4; } .chart .pale { stroke-width:1; opacity:.32; }
.chart .alarm line { stroke:var(--bad); stroke-dasharray:3 3; stroke-width:1.5; } .chart .cursor { stroke:var(--dim); }
.legend { display:flex; flex-wrap:wrap; gap:2px 14px; font-size:12px; color:var(--dim); margin-top:6px; }
.legend i { display:inline-block; width:10px; height:10px; border-radius:3px; margin-right:5px; }
.scroll { overflow-x:auto; }
table { width:100%; border-collapse:collapse; font-variant-numeric:tabular-nums; }
th { text-align:left; font-weight:500; color:var(--dim); font-size:13px; }
th, td { padding:8px 12px; border-bottom:1px solid var(--edge); white-space:nowrap; }
tr:last-child td { border-bottom:0; } td.num, th.num { text-align:right; } tr.total td { font-weight:650; }
.ci { color:var(--dim); font-weight:400; font-size:13px; margin-left:6px; }
.range { position:relative; width:170px; height:18px; } .range b { position:absolute; border-radius:4px; }
.range .track { inset:8px 0; background:var(--edge); } .range .was { background:var(--dim); }
.range .now { background:var(--c0); } .range b.ci { top:7px; height:4px; opacity:.35; margin:0; }
.range .dot { top:4px; width:10px; height:10px; margin-left:-5px; border-radius:50%; }
.pairs { display:grid; grid-template-columns:repeat(auto-fill,minmax(248px,1fr)); gap:14px; }
.pair { padding:12px; } .pair .two { display:grid; grid-template-columns:1fr 1fr; gap:8px; }
.pair p { margin:9px 0 0; font-size:14px; line-height:1.35; } .pair .task { color:var(--dim); font-size:12px; }
figure { margin:0; position:relative; } figure img { display:block; width:100%; border-radius:7px; background:#fff; }
figure img.small { image-rendering:pixelated; } figcaption { color:var(--dim); font-size:12px; margin-top:3px; }
.badge { display:inline-block; font-size:11px; font-weight:600; border-radius:99px; padding:1px 8px; }
figure .marks { float:right; } figcaption .note { overflow-wrap:anywhere; }
.badge.pass { color:var(--good); background:var(--good-bg); }
.badge.fail { color:var(--bad); background:var(--bad-bg); }
.badge.other { color:var(--warn); background:var(--warn-bg); }
.pair.gained { border-color:var(--good); } .pair.lost { border-color:var(--bad); }
.quiet, .alarms { border-radius:12px; padding:12px 16px; margin:0; }
.quiet { color:var(--good); background:var(--good-bg); }
.alarms { color:var(--warn); background:var(--warn-bg); }
.alarms li { margin:3px 0 3px 14px; }
.bar { display:flex; height:26px; border-radius:8px; overflow:hidden; margin-bottom:12px; } .bar i { min-width:1px; }
details { background:var(--card); border:1px solid var(--edge); border-radius:12px; padding:12px 18px; }
details { margin-top:12px; }
summary { cursor:pointer; font-weight:600; }
pre { overflow-x:auto; font:12.5px/1.55 ui-monospace,Menlo,Consolas,monospace; margin:12px 0 4px; }
#tip { position:fixed; pointer-events:none; display:none; background:var(--ink); color:var(--bg); font-size:12px;
  padding:6px 10px; border-radius:8px; z-index:9; white-space:pre; font-variant-numeric:tabular-nums; }
footer { color:var(--dim); font-size:13px; margin-top:40px; }
@media print { body { background:#fff; } .card, details { break-inside:avoid; } }
"""

SCRIPT = """
const tip = document.getElementById('tip'), NS = 'http://www.w3.org/2000/svg';
for (const svg of document.querySelectorAll('svg[data-hover]')) {
  const series = Object.entries(JSON.parse(svg.dataset.hover)), cursor = document.createElementNS(NS, 'line');
  cursor.setAttribute('class', 'cursor'); cursor.setAttribute('y1', 10); cursor.setAttribute('y2', 214);
  cursor.style.display = 'none'; svg.append(cursor);
  svg.addEventListener('pointermove', event => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) * 420 / box.width;
    const near = series.map(([name, points]) =>
      [name, points.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a)]);
    const nearest = near.reduce((a, b) => Math.abs(b[1][0] - x) < Math.abs(a[1][0] - x) ? b : a)[1];
    cursor.setAttribute('x1', nearest[0]); cursor.setAttribute('x2', nearest[0]); cursor.style.display = '';
    tip.textContent = 'step ' + Math.round(nearest[2]) + '\\n'
      + near.map(([name, p]) => name + '  ' + Number(p[3].toPrecision(4))).join('\\n');
    tip.style.display = 'block';
    tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + 'px';
    tip.style.top = (event.clientY + 14) + 'px';
  });
  svg.addEventListener('pointerleave', () => { tip.style.display = cursor.style.display = 'none'; });
}
"""

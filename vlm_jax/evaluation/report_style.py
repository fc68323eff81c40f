"""The report's style sheet: one column on a phone, wide tables scroll on their own, prints in black on white."""

STYLE = """
:root { --ink: #17212b; --soft: #5b6875; --line: #dde3e8; --paper: #ffffff; --wash: #f5f7f9; --own: #0f766e;
  --trivial: #d97706; --share: #64748b; --warn: #fff4de; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--wash); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem clamp(.8rem, 3vw, 2rem) 4rem; }
h1 { font-size: clamp(1.4rem, 4vw, 2rem); line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.35rem; margin: 2.5rem 0 .5rem; } h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
p.lead, .legend, footer, .note { color: var(--soft); }
.world { display: inline-block; background: var(--warn); border: 1px solid #f0d9a8; border-radius: .3rem;
  padding: .05rem .5rem; font-size: .85rem; color: #7a4a00; vertical-align: middle; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: .6rem; margin-top: 1rem;
  padding: .4rem clamp(.7rem, 2.5vw, 1.5rem) 1.2rem; }
section section { border: 0; padding: 0; margin: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; min-width: 100%; }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { color: var(--soft); font-weight: 600; }
td.own { font-weight: 650; } td small { color: var(--soft); font-weight: 400; }
td.better { color: var(--own); } td.worse { color: #b42318; }
figure { margin: 1rem 0 0; } figcaption { font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .85rem; margin: .2rem 0 .6rem; }
.key { display: inline-block; width: .8rem; height: .8rem; margin-right: .35rem; vertical-align: -.08rem; }
.key.own { background: var(--own); opacity: .75; } .key.trivial { background: var(--trivial); width: .25rem; }
.key.share { background: var(--share); width: .25rem; } .key.dot { background: var(--trivial); border-radius: 50%; }
.key.dash { border-top: 2px dashed var(--share); height: .3rem; }
.bar { display: grid; grid-template-columns: minmax(7rem, 16rem) 1fr 2.8rem; gap: .6rem; align-items: center;
  font-size: .88rem; padding: .1rem 0; }
.bar svg { width: 100%; height: 1.05rem; display: block; } .bar .value { text-align: right; }
.track { fill: #eef2f5; } rect.own { fill: var(--own); opacity: .75; } .interval { fill: var(--ink); }
rect.trivial { fill: var(--trivial); } rect.share { fill: var(--share); }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .9rem; }
.curve { font-size: .8rem; line-height: 1.3; overflow-wrap: anywhere; } .curve svg { width: 100%; display: block; }
.frame { fill: none; stroke: var(--line); } polyline { fill: none; stroke: var(--own); stroke-width: 2; }
line.dash { stroke: var(--share); stroke-dasharray: 4 4; } circle { fill: var(--trivial); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); gap: .9rem; }
.card { border: 1px solid var(--line); border-radius: .5rem; padding: .7rem; break-inside: avoid; font-size: .9rem; }
.card .picture { position: relative; max-width: 14rem; margin-bottom: .4rem; overflow: hidden; border-radius: .3rem; }
.card img { width: 100%; display: block; }
.card .box { position: absolute; border: 2px solid #5eead4; } .card .box.true { border: 2px dashed #fff; }
.card .box b { position: absolute; left: 0; top: 0; background: var(--own); color: #fff; font-size: .62rem;
  line-height: 1.3; padding: 0 .2rem; white-space: nowrap; }
.card dt { color: var(--soft); font-size: .8rem; margin-top: .4rem; } .card dd { margin: 0; overflow-wrap: anywhere; }
.card mark { background: #fde2c4; color: inherit; border-radius: .15rem; } .card .true { color: var(--own); }
footer { margin-top: 2rem; font-size: .85rem; }
@media (max-width: 34rem) { .bar { grid-template-columns: 1fr 2.8rem; } .bar .name { grid-column: 1 / -1; } }
@media print { body { background: none; font-size: 11pt; } section { border: 0; padding: 0; }
  .scroll { overflow: visible; } figure, table { break-inside: avoid; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; } }
"""

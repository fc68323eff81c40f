"""What the study's page adds to the style of evaluation reports."""

STUDY_STYLE = """
main { max-width: 78rem; } .scroll { margin-top: .8rem; }
nav.toc { display: flex; flex-wrap: wrap; gap: .3rem .5rem; margin: 1rem 0; }
nav.toc a { background: var(--paper); border: 1px solid var(--line); border-radius: 1rem; padding: .2rem .8rem;
  color: var(--own); text-decoration: none; font-size: .9rem; }
details { margin: .8rem 0; } summary { cursor: pointer; color: var(--own); font-weight: 600; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem; }
.forest { display: grid; grid-template-columns: minmax(9rem, auto) 1fr 9.5rem; gap: .1rem .7rem; align-items: center;
  font-size: .88rem; }
.forest svg { width: 100%; height: 1.1rem; display: block; } .forest .value { text-align: right;
  font-variant-numeric: tabular-nums; white-space: nowrap; } .forest .trivial-name { color: var(--soft); }
.forest .name { overflow-wrap: anywhere; }
.line { stroke: var(--own); stroke-width: 2; vector-effect: non-scaling-stroke; }
.line.trivial { stroke: var(--trivial); } rect.dot { fill: var(--own); } rect.dot.trivial { fill: var(--trivial); }
.rule { stroke: var(--trivial); stroke-dasharray: 3 3; vector-effect: non-scaling-stroke; }
.verdict { font-weight: 650; } .verdict.above { color: var(--own); } .verdict.below { color: #b42318; }
.verdict.within { color: #1b6ca8; } .verdict.undecided, .verdict.one, .verdict.not { color: var(--soft); }
td.text { white-space: normal; text-align: left; min-width: 12rem; }
th .slanted { font-size: .78rem; white-space: normal; display: inline-block; min-width: 4.5rem; }
td.heat { text-align: center; } tr.trivial td { color: var(--soft); }
th.left, td.left { text-align: left; }
.maps { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem; }
.maps svg { width: 100%; display: block; } .maps text { font-size: 3.4px; fill: var(--ink); }
.curve polyline.second { stroke: var(--trivial); stroke-dasharray: 4 3; } .curve line.half { stroke: var(--line); }
.plot svg { width: 100%; max-width: 40rem; display: block; } .plot text { font-size: 10px; fill: var(--soft); }
@media (max-width: 34rem) { .forest { grid-template-columns: 1fr 7.5rem; } .forest .name { grid-column: 1 / -1;
  margin-top: .3rem; } }
@media print { details::details-content { content-visibility: visible; height: auto; } nav.toc { display: none; }
  table { font-size: 7pt; } th, td { padding: .1rem .2rem; white-space: normal; } .card { font-size: 8pt; } }
"""

"""The page's style sheet. Colour names are those of figure.PALETTE; charts refer to them as CSS variables."""

CSS = """\
:root {
  color-scheme: light dark;
  --paper: #fdfcf9; --panel: #f5f2eb; --ink: #1f1d1a; --muted: #6a655e; --rule: #dad5cb; --bar: #c9c3b6;
  --chosen: #b4451f; --uniform: #2f6690; --random: #a88a2a; --diagnostic: #4f7a4a; --all-linear: #99948c;
  --teacher: #3d3a36;
  --mark: #b4451f14;
  --serif: "Iowan Old Style", "Palatino Linotype", Palatino, "URW Palladio L", P052, Georgia, serif;
  --sans: ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #171614; --panel: #201e1b; --ink: #e9e5dd; --muted: #a29b91; --rule: #3a3732; --bar: #57524a;
    --chosen: #ec8a5e; --uniform: #7fb2db; --random: #d9bb5c; --diagnostic: #93c38c; --all-linear: #8b857c;
    --teacher: #d8d3ca;
    --mark: #ec8a5e1c;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 17px/1.6 var(--serif); }
main { max-width: 54rem; margin: 0 auto; padding: 3.5rem 1.25rem 2rem; }
h1 { font-size: clamp(1.7rem, 5vw, 2.5rem); line-height: 1.15; font-weight: 600; letter-spacing: -.012em;
  margin: 0 0 1.6rem; text-wrap: balance; }
h2 { font-size: 1.35rem; line-height: 1.25; font-weight: 600; margin: 3.2rem 0 .9rem; padding-top: 1.1rem;
  border-top: 1px solid var(--rule); }
h3 { font: 600 .82rem/1.4 var(--sans); margin: 0 0 .3rem; }
p, .legend, details pre { max-width: 43rem; }
p { margin: 0 0 1.1rem; hyphens: auto; text-wrap: pretty; }
.lead { font-size: 1.06rem; }
.note { font: .9rem/1.5 var(--sans); background: var(--panel); padding: .7rem .9rem;
  border-left: 3px solid var(--chosen); }
code { font: .86em ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
strong { font-weight: 650; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.2rem, 1fr)); gap: 1.2rem 1.2rem;
  margin: 0 0 2rem; padding: 1.1rem 0 1.2rem; border-top: 2px solid var(--ink);
  border-bottom: 1px solid var(--rule); font-family: var(--sans); }
.facts dd { margin: 0; font-size: 1.5rem; line-height: 1.2; font-weight: 600; letter-spacing: -.02em;
  white-space: nowrap; font-variant-numeric: tabular-nums; color: var(--chosen); }
.facts dt { margin-top: .15rem; font-size: .8rem; line-height: 1.35; color: var(--muted); }
.legend { list-style: none; margin: 0 0 2rem; padding: .9rem 1.1rem; background: var(--panel);
  border-radius: 4px; font: .87rem/1.5 var(--sans); color: var(--muted); }
.legend li + li { margin-top: .4rem; }
.legend strong { color: var(--ink); }
figure { margin: 1.6rem 0 2rem; }
figcaption { max-width: 43rem; margin-top: .55rem; font: .84rem/1.45 var(--sans); color: var(--muted); }
.chart svg { display: block; width: 100%; height: auto; overflow: visible; font-family: var(--sans); }
.chart .narrow { display: none; }
.scroll { overflow-x: auto; overscroll-behavior-x: contain; }
table { width: 100%; border-collapse: collapse; font: .86rem/1.4 var(--sans);
  font-variant-numeric: tabular-nums; border-bottom: 1px solid var(--rule); }
th, td { padding: .42rem 0 .42rem .8rem; text-align: right; vertical-align: baseline; white-space: nowrap; }
thead th { vertical-align: bottom; white-space: normal; font-weight: 500; font-size: .8rem;
  line-height: 1.25; color: var(--muted); border-bottom: 1px solid var(--ink); min-width: 3.6rem; }
tbody tr + tr > * { border-top: 1px solid var(--rule); }
tbody th { font-weight: 500; white-space: normal; min-width: 5.6rem; }
td small { font-size: .86em; color: var(--muted); font-weight: 400; }
th:first-child { padding-left: .5rem; text-align: left; position: sticky; left: 0; background: var(--paper);
  }
td:last-child, th:last-child { padding-right: .5rem; }
.text th, .text td { text-align: left; white-space: normal; }
.marked > td { background: var(--mark); font-weight: 600; }
.marked > th { background: linear-gradient(var(--mark), var(--mark)), var(--paper); font-weight: 650;
  color: var(--chosen); }
.map .row { display: grid; grid-template-columns: 5.6rem 1fr; align-items: center; gap: .7rem;
  font: .84rem/1 var(--sans); margin-bottom: .4rem; }
.map .cells { display: flex; gap: 2px; }
.map i { flex: 1 1 0; height: 1.05rem; border-radius: 2px; background: var(--rule); }
.map .on { background: var(--on); }
.samples { display: grid; gap: 1.2rem; }
.sample { padding-left: 1rem; border-left: 1px solid var(--rule); }
.sample p { margin: 0; overflow-wrap: anywhere; white-space: pre-wrap; }
.prompt { color: var(--muted); }
.dot { display: inline-block; width: .6rem; height: .6rem; border-radius: 50%; margin-right: .45rem; }
details { margin: 1rem 0; font-family: var(--sans); font-size: .9rem; }
details p { font-size: .87rem; margin: .8rem 0; }
summary { cursor: pointer; color: var(--muted); padding: .3rem 0; }
summary:hover, summary:focus-visible { color: var(--chosen); }
details figure { margin: .6rem 0 1rem; }
pre { overflow-x: auto; background: var(--panel); padding: .9rem 1.1rem; border-radius: 4px;
  font-size: .85rem; line-height: 1.5; }
footer { max-width: 54rem; margin: 0 auto; padding: 1.5rem 1.25rem 3rem; font: .8rem/1.5 var(--sans);
  color: var(--muted); }
@media (max-width: 40rem) {
  body { font-size: 16px; }
  main { padding-top: 2rem; }
  .chart .wide { display: none; }
  .chart .narrow { display: block; }
  .map .row { grid-template-columns: 4.6rem 1fr; gap: .4rem; }
  .map .cells { gap: 1px; }
  .facts { grid-template-columns: 1fr 1fr; }
  .facts dd { font-size: 1.3rem; }
}
@media print { body { background: none; } details { display: block; } main { max-width: none; } }
"""

/** The page's looks: indigo cloth with a red thread along its edge, in light and in dark. */
export const style = `
:root { color-scheme: light dark; --page:#f6f5f1; --card:#fff; --ink:#1b2233; --soft:#667085; --rule:#e3e1d9; --cloth:#1f2f56; --twill:#263865; --thread:#d3364b; --input:#0b7a75; --bulk:#c77d0a; --bad:#c22f45; --good:#1d8a4e; --band:#d3364b1a; }
@media (prefers-color-scheme: dark) { :root { --page:#0f131c; --card:#171d2a; --ink:#e6e9f0; --soft:#94a0b8; --rule:#283044; --cloth:#18233f; --twill:#1d2a4b; --thread:#e4566a; --input:#43c6bd; --bulk:#eeb04a; --bad:#f0697d; --good:#55c98a; --band:#e4566a24; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
header { background: repeating-linear-gradient(135deg, var(--cloth) 0 3px, var(--twill) 3px 6px); color: #fff; border-bottom: 6px solid #f3efe4; box-shadow: inset 0 -4px 0 var(--thread); }
header > div, main { max-width: 1080px; margin: 0 auto; padding: 28px 20px; }
h1 { margin: 0; font-size: clamp(1.6rem, 5vw, 2.4rem); letter-spacing: -0.02em; }
header p { margin: 6px 0 0; opacity: .85; }
header .verdict { display: inline-block; margin-top: 14px; padding: 4px 14px; border-radius: 99px; background: #ffffff22; font-weight: 600; }
h2 { margin: 44px 0 6px; font-size: 1.3rem; letter-spacing: -0.01em; }
h2 + p { margin: 0 0 16px; color: var(--soft); max-width: 65ch; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin-top: -8px; }
.tile, .card { background: var(--card); border: 1px solid var(--rule); border-radius: 12px; }
.tile { padding: 14px 16px; }
.tile b { display: block; font-size: 1.75rem; line-height: 1.15; letter-spacing: -0.02em; font-variant-numeric: tabular-nums; }
.tile b small { font-size: .9rem; font-weight: 500; color: var(--soft); }
.tile span { color: var(--soft); font-size: .86rem; line-height: 1.3; display: block; }
.card { padding: 16px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 16px; }
.pair > .card { min-width: 0; }
.diagram { display: block; width: 100%; max-width: 680px; max-height: 640px; margin: 0 auto; }
.diagram text { text-anchor: middle; fill: var(--ink); font-size: 13px; }
.diagram .name { font-weight: 650; font-size: 16px; }
.diagram .small { fill: var(--soft); font-size: 12.5px; }
.diagram .warn { fill: var(--bad); font-weight: 600; }
.diagram .link { fill: var(--bulk); font-weight: 600; paint-order: stroke; stroke: var(--card); stroke-width: 6px; stroke-linejoin: round; }
.diagram path { fill: none; }
.diagram .cable { stroke: var(--soft); stroke-width: 1.5; }
.diagram .shaped { stroke: var(--bulk); stroke-width: 3; stroke-dasharray: 7 5; }
.diagram .switch { fill: var(--page); stroke: var(--rule); }
.diagram .host { fill: var(--card); stroke: var(--soft); stroke-width: 1.3; }
.diagram .tower { fill: var(--cloth); stroke: var(--thread); stroke-width: 2; }
.diagram .tower + .name { fill: #fff; }
.diagram .tower + .name + .small { fill: #ffffffb0; }
.diagram .node { stroke: var(--input); stroke-width: 2; }
.chart { margin: 0; }
figcaption { display: flex; flex-wrap: wrap; gap: 2px 14px; justify-content: space-between; }
figcaption span { color: var(--soft); font-size: .86rem; font-variant-numeric: tabular-nums; }
figcaption span b { color: var(--ink); }
.lane { display: grid; grid-template-columns: 44px 1fr; }
.field { min-width: 0; }
.lane svg { display: block; width: 100%; height: 170px; overflow: visible; }
.lane.bulk { margin-top: 34px; }
.lane.bulk svg { height: 96px; }
.scale { position: relative; font-size: 11.5px; color: var(--soft); font-variant-numeric: tabular-nums; }
.scale span { position: absolute; right: 8px; transform: translateY(50%); }
.scale em { position: absolute; right: 8px; top: -27px; font-style: normal; font-weight: 600; white-space: nowrap; }
.lane.bulk .scale em { top: -25px; right: auto; left: 0; color: var(--bulk); }
.lane.input .scale em { color: var(--input); }
.time { position: relative; height: 22px; margin-left: 44px; font-size: 11.5px; color: var(--soft); }
.time span { position: absolute; top: 4px; transform: translateX(-50%); }
.time em { position: absolute; right: -10px; top: 4px; font-style: normal; }
.marks { position: relative; margin-left: 44px; font-size: 12px; }
.marks span { position: absolute; padding-left: 5px; border-left: 2px solid var(--thread); line-height: 1.2; white-space: nowrap; color: var(--ink); background: var(--card); }
.lane line, .lane path { vector-effect: non-scaling-stroke; }
.grid { stroke: var(--rule); stroke-width: 1; }
.mark { stroke: var(--thread); stroke-width: 1.5; stroke-dasharray: 4 3; }
.band { fill: var(--band); }
.input .curve { fill: none; stroke: var(--input); stroke-width: 1.4; stroke-linejoin: round; }
.bulk .curve { fill: var(--bulk); fill-opacity: .28; stroke: var(--bulk); stroke-width: 1.2; }
.bulk .line { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 2 4; }
table { width: 100%; border-collapse: collapse; }
td, th { text-align: left; vertical-align: top; padding: 10px 8px; border-top: 1px solid var(--rule); }
tr:first-child > * { border-top: 0; }
th { font-weight: 600; white-space: nowrap; }
td small { display: block; color: var(--soft); }
.held { color: var(--good); font-weight: 700; }
.missed { color: var(--bad); font-weight: 700; }
.facts { display: flex; flex-wrap: wrap; gap: 6px; }
.facts span { padding: 1px 9px; border-radius: 99px; background: var(--page); border: 1px solid var(--rule); font-size: .84rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.facts i { font-style: normal; color: var(--soft); }
footer { color: var(--soft); font-size: .88rem; margin: 36px 0 12px; }
code { font: .92em ui-monospace, monospace; }
@media (max-width: 600px) { header > div, main { padding: 20px 14px; } .steps tr { display: block; padding: 10px 0; border-top: 1px solid var(--rule); } .steps tr:first-child { border: 0; } .steps th, .steps td { display: block; border: 0; padding: 3px 4px; } }
`;

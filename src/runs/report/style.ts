/** The page's style sheet: light and dark (the colours are in charts.ts), phone width, paper. */
export const STYLE = `
*{box-sizing:border-box}
body{margin:0 auto;max-width:68rem;padding:3rem 2rem 5rem;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,'Segoe UI',sans-serif;font-variant-numeric:tabular-nums}
h1{margin:0;font-size:1.75rem;font-weight:600;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{margin:0 0 1rem;font-size:1.15rem;font-weight:600}
h3{margin:0 0 .5rem;font-size:.95rem;font-weight:600}
section{margin-top:3rem;padding-top:1.5rem;border-top:1px solid var(--rule)}
.over,.facts,.caption,caption,figcaption,.note,.none,small{color:var(--muted)}
.over{margin:0;font-size:.85rem}
.facts{margin:.35rem 0 0;font-size:.9rem}
.caption,figcaption,caption{font-size:.85rem;text-align:left}
caption{padding-bottom:.6rem}
figure{margin:0}
figcaption{margin-top:.4rem}
svg{display:block;width:100%;height:auto}
svg.marks{width:200px;margin-left:auto}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(15rem,1fr));gap:1.5rem 2rem;margin:2.5rem 0 .75rem}
.figures dt{font-size:.9rem}
.figures dd{margin:0;font-size:2rem;font-weight:600;letter-spacing:-.02em;line-height:1.3}
.figures .from{font-weight:400;color:var(--muted)}
.figures small{font-size:1.1rem;font-weight:400;margin-left:.1rem}
.figures .note{font-size:.85rem;font-weight:400;letter-spacing:0}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:2rem}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:2rem 3rem;margin-top:2.5rem;align-items:start}
table{width:100%;border-collapse:collapse;font-size:.92rem}
th,td{padding:.45rem .6rem;text-align:right;border-bottom:1px solid var(--rule);vertical-align:top}
th:first-child,td:first-child{padding-left:0}
th:last-child,td:last-child{padding-right:0}
th{font-weight:400}
thead th{color:var(--muted);font-size:.85rem;vertical-align:bottom}
tbody th,thead th:first-child{text-align:left}
thead tr:first-child:not(:last-child)>*{border-bottom:0;padding-bottom:0}
td small{display:block;font-size:.78rem;white-space:nowrap}
.pair td{white-space:nowrap}
.results tr:not(.control) th[scope=row],.results tr:not(.control) td{font-weight:600}
.results td small{font-weight:400}
.results .control th{padding-left:1.25rem;color:var(--muted)}
table:not(.reflections,.plain,.tokens) tbody th[scope=row]::first-letter{text-transform:uppercase}
.results .cost td,.results .cost th,.results tr.cost:not(.control) th[scope=row],.results tr.cost:not(.control) td{font-weight:400;color:var(--muted)}
.narrow{display:none}
.reflections{max-width:38rem;margin-top:2rem}
.reflections+.caption{margin:.6rem 0 0}
.warning{margin:1rem 0 0;padding:.6rem 1rem;border-left:3px solid var(--c2);background:color-mix(in srgb,var(--c2) 12%,transparent);font-size:.92rem}
tr.open{color:var(--muted)}
.plain td,.plain th{text-align:left;overflow-wrap:anywhere;padding:.3rem .8rem .3rem 0}
.plain th[scope=row]{white-space:nowrap;color:var(--muted)}
.plain{width:auto;min-width:50%}
.scroll{overflow-x:auto}
.scroll+.scroll{margin-top:2rem}
.pair>.scroll,.pair .reflections{margin-top:0}
h2+.pair{margin-top:0}
h3.later{margin:2rem 0 .5rem}
details{margin-top:1rem;font-size:.9rem}
details table{margin-top:.8rem}
summary{cursor:pointer;color:var(--muted)}
pre{margin:0;font:.85rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate}
details pre{margin-top:.8rem}
.episodes{display:grid;gap:1.25rem}
article{border:1px solid var(--rule);border-radius:6px;padding:1rem 1.25rem}
article dl{display:grid;grid-template-columns:7.5rem 1fr;gap:0;margin:0}
article dt,article dd{margin:0;padding:.5rem 0}
article dt{color:var(--muted);font-size:.85rem;padding-right:1rem}
article dt small{display:block}
article .trained{border-left:3px solid var(--c0);background:color-mix(in srgb,var(--c0) 8%,transparent)}
article dt.trained{margin-left:-1.25rem;padding-left:calc(1.25rem - 3px);color:var(--ink)}
article dd.trained{border-left:0;margin-right:-1.25rem;padding-right:1.25rem}
.verdict,.none{margin:.25rem 0 0;font-size:.85rem}
.verdict{color:var(--muted)}
.verdict.pass{color:var(--ink);font-weight:600}
.label{font-weight:400;color:var(--muted)}
.label::after{content:' ·'}
details.tokens{padding-top:.25rem}
details.tokens .line{margin:.2rem 0 .6rem;white-space:pre-wrap;overflow-wrap:anywhere;font:.85rem/1.9 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;unicode-bidi:isolate}
.tokens td,.tokens th{padding:.15rem .6rem}
table.tokens{width:auto}
.token{border:1px solid var(--rule);border-radius:2px;padding:0 1px}
.token.up{background:color-mix(in srgb,var(--c0) 30%,transparent);border-color:var(--c0)}
.token.down{background:color-mix(in srgb,var(--c2) 35%,transparent);border-color:var(--c2);border-style:dashed}
.token.zero{border-color:var(--c0)}
details.run{border-top:1px solid var(--rule);padding-top:.75rem}
details.run>summary{color:var(--ink);font-weight:600;overflow-wrap:anywhere}
details.run section{margin-top:2rem}
@media (max-width:46rem){body{padding:1.5rem 1rem 3rem}.wide{display:none}.narrow{display:block}.results caption{max-width:calc(100vw - 2rem)}.results tr{display:grid;grid-template-columns:repeat(4,1fr)}.results tr>th[scope=row]{grid-column:1/-1;border-bottom:0;padding:.5rem 0 0}.results tr>td{padding:.1rem 0 .45rem}.results thead td{display:none}.results th[scope=colgroup]{grid-column:span 2}.results td small{letter-spacing:-.02em}article dl{grid-template-columns:1fr}article dt{padding-bottom:0}article dd{padding-top:.1rem}article dt.trained{margin-right:-1.25rem}article dd.trained{margin-left:-1.25rem;padding-left:calc(1.25rem - 3px);border-left:3px solid var(--c0)}}
@media print{body{max-width:none;padding:0}details::details-content{content-visibility:visible;block-size:auto}article,figure,tr{break-inside:avoid}h2,h3,caption{break-after:avoid}}
`;

"""A verdict as a Markdown page, as an HTML card in one file, and several verdicts side by side."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from html import escape
from statistics import median

from tabulate import tabulate

from lgmpose.lab.bench.processes import LOAD_MARGIN
from lgmpose.lab.verdict.claim_timing import Verdict
from lgmpose.lab.verdict.paper_claims import COUNT_SECTIONS, LGM, SMALL_HW, Finding

__all__ = ["html_card", "markdown_card", "side_by_side"]

MARKS = {"holds": "✓", "does not hold": "✗", "not decidable": "?"}


def _machine_lines(verdict: Verdict) -> list[str]:
    """Return where, when and with what was measured, and what is wrong with it, one sentence per line."""
    header = verdict.header
    versions = ", ".join(f"{name} {version}" for name, version in header.get("versions", {}).items())
    lines = [
        f"{header['cpu']}, {header['cores']} cores, {header['threads']} thread(s) used; {header['system']}",
        f"{header['date']}; lgmpose {header['lgmpose']}, commit {header['commit'] or 'unknown'}; Python "
        f"{header['python']}, {versions or 'nothing timed'}; {verdict.command}",
        f"Fastest runtime: {header['runtime']}"
        + "".join(f"; {name} was not tried: {reason}" for name, reason in header.get("missing_runtimes", {}).items()),
    ]
    times = {}
    for process in verdict.processes:
        if process.image_hw == SMALL_HW and LGM in process.median_ms:
            times.setdefault(process.backend, []).append(process.median_ms[LGM])
    if times:
        figures = (f"{median(ms):.1f} ms, {1000 / median(ms):.0f} FPS in {name}" for name, ms in times.items())
        lines.append(f"LGM-Pose at 256×192: {'; '.join(figures)}")
    loads = [load for p in verdict.processes for load in (p.load, p.load_after) if load is not None]
    if loads and max(loads) > header["cores"] + LOAD_MARGIN:
        lines.append(
            f"BUSY MACHINE: load up to {max(loads):.1f} on {header['cores']} cores. Other work disturbed the times; "
            "measure again on a quiet machine"
        )
    if not verdict.finished:
        lines.append(f"STOPPED BEFORE THE END, after {len(verdict.processes)} processes: intervals are wider")
    return lines


def _totals(verdict: Verdict) -> dict[str, int]:
    findings = [finding for finding in verdict.findings if finding.section != COUNT_SECTIONS[0]]
    found = Counter(answer for finding in findings for answer in finding.verdicts.values())
    return {name: found[name] for name in MARKS}


def _by_section(verdict: Verdict) -> dict[str, list[Finding]]:
    return {name: list(part) for name, part in itertools.groupby(verdict.findings, key=lambda found: found.section)}


def markdown_card(verdict: Verdict) -> str:
    """Return the page that the command prints."""
    counts = ", ".join(f"{number} {MARKS[name]} {name}" for name, number in _totals(verdict).items())
    parts = ["# The paper's claims on this machine", f"**{counts}**"]
    parts.append("\n".join(f"* {line}" for line in _machine_lines(verdict)))
    for section, findings in _by_section(verdict).items():
        rows = [
            (f.subject, f.paper, f.here, ", ".join(f"{MARKS[v]} {words or v}" for words, v in f.verdicts.items()))
            for f in findings
        ]
        parts += [f"## {section}", _table(("claim", "paper", "here", "verdict"), rows)]
    parts += ["## Not tested", _table(("claim", "why"), list(verdict.not_tested.items())), f"The rule: {verdict.rule}"]
    return "\n\n".join(parts) + "\n"


def side_by_side(verdicts: Sequence[Verdict]) -> str:
    """Return Markdown tables with a row per claim about speed and a column per machine."""
    cells: dict[tuple[str, str, str], dict[int, str]] = {}
    for column, verdict in enumerate(verdicts):
        for found in (found for found in verdict.findings if found.section not in COUNT_SECTIONS):
            marks = "".join(MARKS[answer] for answer in found.verdicts.values())
            claim = ": ".join(part for part in (found.subject, ", ".join(found.verdicts)) if part)
            here = f"{found.ratio[0]:.2f}" if found.ratio else found.here
            cells.setdefault((found.section, claim, found.paper), {})[column] = f"{marks} {here}"
    machines = [
        f"{v.header['cpu']}, {v.header['threads']} thread(s), {v.header['date'][:16].replace('T', ' ')}, "
        f"fastest: {v.header['runtime']}"
        for v in verdicts
    ]
    parts = ["✓ holds, ✗ does not hold, ? not decidable, – not measured. One mark per claim, in their order."]
    for section, group in itertools.groupby(cells.items(), key=lambda item: item[0][0]):
        rows = [(*key[1:], *(found.get(i, "–") for i in range(len(verdicts)))) for key, found in group]
        parts += [f"**{section}**", _table(("claim", "paper", *machines), rows)]
    return "\n\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return tabulate(rows, head, tablefmt="pipe", disable_numparse=True)


# HTML

STYLE = """
:root { color-scheme: light dark; --page: #f4f5f7; --card: #fff; --text: #1d2530; --soft: #5d6876; --line: #dfe3e8;
  --holds: #14713d; --fails: #b3261e; --open: #8a5a00; --bar: #4a7fc1; }
@media (prefers-color-scheme: dark) { :root { --page: #12161c; --card: #1b212a; --text: #e6eaf0; --soft: #9aa6b5;
  --line: #333c48; --holds: #58c98a; --fails: #ff8a80; --open: #e8b04a; --bar: #7fb0ee; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 1.5rem 1rem; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: auto; background: var(--card); border: 1px solid var(--line); border-radius: 14px;
  padding: 1.6rem 2rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 1rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .4rem; }
.counts { display: flex; flex-wrap: wrap; gap: .8rem; margin-bottom: 1rem; }
.counts div { flex: 1 1 9rem; border: 1px solid var(--line); border-left: 5px solid; border-radius: 8px;
  padding: .5rem .9rem; }
.counts b { font-size: 1.8rem; line-height: 1.2; display: block; }
ul { margin: 0; padding-left: 1.1rem; color: var(--soft); font-size: .87rem; overflow-wrap: anywhere; }
.warning { color: var(--fails); font-weight: 600; }
table { width: 100%; border-collapse: collapse; font-size: .9rem; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: .8rem; }
th, td { padding: .4rem .6rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: middle; }
td:nth-child(1) { width: 31%; } td:nth-child(2) { width: 15%; } td:nth-child(4) { width: 23%; }
td:nth-child(2), td:nth-child(3) { font-variant-numeric: tabular-nums; }
svg { display: block; width: 200px; height: 14px; overflow: visible; }
.holds { color: var(--holds); } .fails { color: var(--fails); } .open { color: var(--open); }
td span { display: block; font-weight: 600; white-space: nowrap; }
.small, footer { color: var(--soft); font-size: .85rem; }
@media (max-width: 700px) {
  main { padding: 1.1rem; } thead { display: none; }
  tr { display: block; padding: .5rem 0; border-bottom: 1px solid var(--line); }
  table td { display: block; width: auto !important; border: 0; padding: .1rem 0; }
  td:first-child { font-weight: 600; } td span { display: inline-block; margin-right: 1em; }
  section td:nth-child(2)::before { content: "paper: "; color: var(--soft); }
  section td:nth-child(3)::before { content: "here: "; color: var(--soft); }
}
"""
CLASSES = {"holds": "holds", "does not hold": "fails", "not decidable": "open"}


def html_card(verdict: Verdict) -> str:
    """Return a page in one file, for light and dark screens and for phones; it loads nothing."""
    counts = "".join(
        f'<div class="{CLASSES[name]}"><b>{number}</b>{MARKS[name]} {name}</div>'
        for name, number in _totals(verdict).items()
    )
    machine = "".join(
        f"<li{' class=warning' if line.startswith(('BUSY', 'STOPPED')) else ''}>{escape(line)}</li>"
        for line in _machine_lines(verdict)
    )
    sections = "".join(_html_section(name, findings) for name, findings in _by_section(verdict).items())
    missing = [[escape(what), escape(why)] for what, why in verdict.not_tested.items()]
    title = "LGM-Pose: the paper's claims on this machine"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{STYLE}</style></head><body><main>
<h1>{title}</h1><div class="counts">{counts}</div><ul>{machine}</ul>
{sections}
<h2>Not tested here</h2><div class="small">{tabulate(missing, tablefmt="unsafehtml")}</div>
<h2>The rule</h2><p class="small">{escape(verdict.rule)}</p>
</main></body></html>
"""


def _html_section(name: str, findings: Sequence[Finding]) -> str:
    ends = [end for f in findings if f.ratio for end in (*f.ratio, f.claimed or 1, 1.0)]
    rows = []
    for found in findings:
        verdicts = (
            f'<span class="{CLASSES[answer]}">{MARKS[answer]} {escape(words or answer)}</span>'
            for words, answer in found.verdicts.items()
        )
        picture = _interval_picture(found, min(ends), max(ends)) if found.ratio else ""
        rows.append([escape(found.subject), escape(found.paper), escape(found.here) + picture, "".join(verdicts)])
    head = ("claim", "paper", "here" + "; bar: interval, ring: the paper, line: 1" * bool(ends), "verdict")
    table = tabulate(rows, head, "unsafehtml", disable_numparse=True)
    return f"<section><h2>{escape(name)}</h2>{table}</section>"


def _interval_picture(found: Finding, low: float, high: float) -> str:
    """Return an interval, the paper's ratio and 1 on a logarithmic axis from ``low`` to ``high``."""
    assert found.ratio is not None

    def x(value: float) -> str:
        return f"{5 + 190 * math.log(value / low) / max(math.log(high / low), 1e-9):.1f}"

    value, start, end = map(x, found.ratio)
    return (
        f'<svg viewBox="0 0 200 14" aria-hidden="true"><path d="M{x(1)} 0V14" '
        'stroke="var(--soft)" stroke-width="1" stroke-dasharray="2 2"/>'
        f'<path d="M{start} 7H{end}" stroke="var(--bar)" stroke-width="5" stroke-linecap="round"/>'
        f'<circle cx="{value}" cy="7" r="3.4" fill="var(--bar)"/>'
        f'<circle cx="{x(found.claimed or 1)}" cy="7" r="4" fill="none" stroke="var(--text)" stroke-width="1.6"/></svg>'
    )

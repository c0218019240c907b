"""lgmpose verdict: the rule, the claims, interrupted measurements and the card. The processes are made up."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from scipy.stats import t

from lgmpose.cli import main
from lgmpose.errors import UserError
from lgmpose.lab.bench.measurement import Outcome
from lgmpose.lab.paper import TABLES
from lgmpose.lab.verdict import claim_timing, paper_claims
from lgmpose.lab.verdict.claim_timing import load_verdict, measure_verdict, with_mobilevit
from lgmpose.lab.verdict.paper_claims import (
    COUNT_SECTIONS,
    LGM,
    NOT_TESTED,
    OPEN,
    Finding,
    VerdictConfig,
    cost_findings,
    interval,
    judge,
    planned_intervals,
    rule,
    speed_findings,
)
from lgmpose.lab.verdict.verdict_card import markdown_card, side_by_side

HEADER_KEYS = {"date", "cpu", "cores", "system", "threads", "commit", "runtime", "versions"}
COST = Finding(COUNT_SECTIONS[0], "made up <b>", "1.1 M", "1,054,929", {"parameters": "holds"})


# --- the rule -------------------------------------------------------------------------------------------------------


def test_the_interval_is_that_of_the_mean_logarithm_for_the_whole_family():
    ratios = [2.0, 2.2, 1.9, 2.1]
    logs = [math.log(ratio) for ratio in ratios]
    for family, confidence in ((1, 0.95), (10, 0.995)):
        mean = sum(logs) / 4
        error = math.sqrt(sum((x - mean) ** 2 for x in logs) / 3 / 4)
        low, high = t.interval(confidence, 3, loc=mean, scale=error)
        assert interval(ratios, family) == pytest.approx((math.exp(mean), math.exp(low), math.exp(high)))
    assert interval([2.0], 1) is None and interval([2.0, 2.0], 5) == pytest.approx((2, 2, 2))


@pytest.mark.parametrize("ratio, claimed, at_most, expected", [
    ((2.0, 1.5, 2.5), 1.0, False, "holds"),
    ((2.0, 1.5, 2.5), 3.0, False, "does not hold"),
    ((2.0, 1.5, 2.5), 2.2, False, OPEN),
    ((2.0, 1.5, 2.5), 1.5, False, OPEN),
    ((2.0, 1.5, 2.5), 1.0, True, "does not hold"),
    ((2.0, 1.5, 2.5), 3.0, True, "holds"),
    ((2.0, 1.5, 2.5), 2.2, True, OPEN),
    (None, 1.0, False, OPEN),
])  # fmt: skip
def test_a_verdict_needs_the_whole_interval_on_one_side(ratio, claimed, at_most, expected):
    assert judge(ratio, claimed, at_most) == expected


def test_bad_options_are_refused():
    for options in ({"processes": 1}, {"processes": 0}, {"threads": 0}):
        with pytest.raises(UserError, match=next(iter(options))):
            VerdictConfig(**options)


# --- counts ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def costs() -> dict[str, Finding]:
    return {finding.subject: finding for finding in cost_findings()}


@pytest.mark.slow
def test_every_row_of_lgm_pose_has_the_printed_costs(costs):
    rows = [finding for finding in costs.values() if "FLOPs" in finding.verdicts]
    assert len(rows) == 9 and all(set(row.verdicts.values()) == {"holds"} for row in rows)
    assert next(row for row in rows if "384×288" in row.subject).here.startswith("1,205,529;")


@pytest.mark.slow
def test_shares_are_judged_as_the_text_means_them(costs):
    def answer(words: str) -> str:
        (found,) = [finding for subject, finding in costs.items() if words in subject]
        return found.verdicts[""]

    for words in ("Hourglass", "MobileNetV2", "SimpleBaseline", "Lite-HRNet-18 at 256×192", "more than half"):
        assert answer(words) == "holds"
    assert answer("Lite-HRNet-18 at 384×288") == answer("half the computational") == "does not hold"


def test_counts_that_differ_from_the_paper_are_found(monkeypatch):
    """One row, with a wrong figure, and two shares; the next tests count them all."""
    row = next(row for row in TABLES[1] if row.model == LGM)
    wrong = SimpleNamespace(**{name: getattr(row, name) for name in row.__dataclass_fields__} | {"params": "1.3 M"})
    monkeypatch.setattr(paper_claims, "ROWS", (wrong,))
    chosen = [share for share in paper_claims.SHARES if "Lite-HRNet" in share.words]
    monkeypatch.setattr(paper_claims, "SHARES", chosen)
    found, small, large = cost_findings()
    assert found.verdicts == {"parameters": "does not hold", "FLOPs": "holds"}
    assert (small.verdicts[""], large.verdicts[""]) == ("holds", "does not hold")


# --- the measurement, with made-up processes ------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch):
    """A machine on which every other network takes 3 times as long as LGM-Pose, 4 times at the larger input."""
    state = SimpleNamespace(jobs=[], stop_after=None, fails=(), load=0.0)

    def measure(job, show):
        if len(state.jobs) == state.stop_after:
            raise KeyboardInterrupt
        state.jobs.append(job)
        row, models = job.rows[0], [row.model for row in job.rows if row.model not in state.fails]
        unit = {"eager": 40.0, "eager-fast": 30.0, "onnxruntime": 20.0, "openvino": 25.0}[row.backend]
        large = row.image_hw == (384, 288)
        drift = 1 + 0.01 * (len(state.jobs) % 3)
        times = {m: [unit * (1 + large) * (1 if m == LGM else (3 + large) * drift)] * 3 for m in models}
        environment = {"load": 0.1, "load_after": state.load, "versions": {"torch": "2"}}
        return Outcome(environment, times, dict.fromkeys(state.fails, "it broke"))

    monkeypatch.setattr(claim_timing, "measure_job", measure)
    monkeypatch.setattr(claim_timing, "cost_findings", lambda: [COST])
    monkeypatch.setattr(claim_timing, "find_runtime", lambda name: None)
    return state


def answers(verdict, words: str) -> list[dict[str, str]]:
    return [finding.verdicts for finding in verdict.findings if words in finding.subject]


def test_a_whole_measurement(machine, tmp_path, capsys):
    file, config = tmp_path / "v.json", VerdictConfig()
    verdict = measure_verdict(config, file)
    assert rule(config) in capsys.readouterr().err, "the rule is printed before the measurement"
    assert verdict.header["runtime"] == "onnxruntime" and verdict.header.keys() >= HEADER_KEYS
    exported = machine.jobs[3 : 3 + 12 + 4]  # three runtimes are tried, and the networks of both sizes are exported
    assert {len(job.rows) for job in exported} == {1} and len({str(job.rows) for job in exported}) == 12 + 4
    measuring = machine.jobs[3 + 12 + 4 :]
    assert len(measuring) == len(verdict.processes) == 2 * 2 * config.repeats
    assert {job.rows[0].threads for job in measuring} == {1} and len({job.folder for job in machine.jobs}) == 1
    assert {job.config.device for job in machine.jobs} == {"cpu"}
    lite = answers(verdict, "as fast as Lite-HRNet-18")
    assert lite == [
        {"faster": "holds", claim: answer}
        for claim, answer in (("at least 4.47 times", "does not hold"), ("at least 3.66 times", "holds")) * 2
    ]
    assert answers(verdict, "highest FPS") == [{"": "holds"}] * 2
    assert answers(verdict, "minimal impact") == [{"at most 1.35 times": "does not hold"}] * 2
    assert answers(verdict, "growth / Dite-HRNet-18") == [{"less than 1": "holds"}] * 2  # 3 / 4
    intervals = [finding for finding in verdict.findings if finding.ratio]
    assert len(intervals) == planned_intervals(config)
    assert load_verdict(file) == verdict and verdict.finished


def test_growth_compares_processes_of_one_round(machine, tmp_path):
    """A network that failed in one process: the processes after it keep their partners."""
    verdict = measure_verdict(VerdictConfig(), tmp_path / "v.json")
    model, eager = "dite-hrnet-18", [p for p in verdict.processes if p.setting == "eager"]
    small, large = ([p for p in eager if p.image_hw == hw] for hw in ((256, 192), (384, 288)))
    for number, (a, b) in enumerate(zip(small, large, strict=True), start=1):
        a.ratios[model], b.ratios[model] = 3.0 * number, 4.0 * number
    del small[2].ratios[model]
    (found,) = (f for f in speed_findings(VerdictConfig(), "eager", eager) if "growth / Dite-HRNet-18" in f.subject)
    assert found.ratio == pytest.approx((0.75, 0.75, 0.75))


def test_a_quick_measurement_takes_fewer_networks(machine, tmp_path):
    config = VerdictConfig(quick=True, processes=3, threads=2)
    verdict = measure_verdict(config, tmp_path / "v.json")
    assert len(verdict.processes) == 2 * 3 and {len(job.rows) for job in machine.jobs[-6:]} == {4}
    assert len([f for f in verdict.findings if f.ratio]) == planned_intervals(config) == 6
    assert verdict.command == "lgmpose verdict --quick --threads 2 --processes 3 --json FILE"


def test_what_was_measured_before_an_interruption_is_kept(machine, tmp_path):
    machine.stop_after = 3 + 16 + 9  # two rounds of four processes, and one more
    file = tmp_path / "v.json"
    verdict = measure_verdict(VerdictConfig(), file)
    assert not verdict.finished and len(verdict.processes) == 9 and load_verdict(file) == verdict
    assert answers(verdict, "as fast as HRNet")[0]["faster"] == "holds" and "STOPPED" in markdown_card(verdict)
    machine.jobs, machine.stop_after = [], 0
    early = measure_verdict(VerdictConfig(), file)
    assert early.findings == [COST] and "STOPPED" in markdown_card(load_verdict(file))


def test_a_network_that_does_not_run_is_not_decided(machine, tmp_path):
    machine.fails = ("mobilenetv2",)
    verdict = measure_verdict(VerdictConfig(), tmp_path / "v.json")
    found = [finding for finding in verdict.findings if finding.subject.endswith("MobileNetV2")]
    assert [finding.here for finding in found] == ["it broke"] * 4 and {*found[0].verdicts.values()} == {OPEN}
    assert answers(verdict, "highest FPS")[0] == {"": OPEN}


def test_a_missing_runtime_is_said(machine, tmp_path, monkeypatch):
    def find(name):
        if name != "eager-fast":
            raise UserError(f"{name}: pip install it")

    monkeypatch.setattr(claim_timing, "find_runtime", find)
    verdict = measure_verdict(VerdictConfig(quick=True), tmp_path / "v.json")
    assert verdict.header["runtime"] == "eager-fast" and set(verdict.header["missing_runtimes"]) == {
        "onnxruntime", "openvino",
    }  # fmt: skip
    assert "openvino: pip install it" in markdown_card(verdict)


def test_table_4s_other_network_is_built():
    net = with_mobilevit()
    assert net.config.global_block == "mobilevit" and net.config.image_hw == (256, 192)


# --- the card -------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Checks that tags close, and collects the addresses that a page loads."""

    def __init__(self):
        super().__init__()
        self.open, self.loads = [], []

    def handle_starttag(self, tag, attributes):
        self.loads += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_cards(machine, tmp_path, capsys):
    machine.load = 99.0
    file, page = tmp_path / "v.json", tmp_path / "v.html"
    assert main(["verdict", "--quick", "--json", str(file), "--html", str(page)]) == 0
    text = capsys.readouterr().out
    verdict = load_verdict(file)
    assert text.strip() == markdown_card(verdict).strip() == file.with_suffix(".md").read_text().strip()
    for words in (*NOT_TESTED, *(finding.subject for finding in verdict.findings), verdict.rule, "BUSY"):
        assert words in text
    (totals,) = [line for line in text.splitlines() if line.startswith("**")]
    assert sum(map(int, re.findall(r"\d+", totals))) == 3 * 2 * 2, "two verdicts per network and setting; no counts"
    html = page.read_text(encoding="utf-8")
    parser = Page()
    parser.feed(html)
    assert parser.open == [] and parser.loads == [] and "url(" not in html and "http" not in html
    assert "prefers-color-scheme: dark" in html and "made up &lt;b&gt;" in html and html.count("<svg") == 6
    assert main(["verdict", "--render", str(file), "--html", str(page)]) == 0 and page.read_text("utf-8") == html


def test_several_machines_side_by_side(machine, tmp_path, capsys):
    files = [tmp_path / name for name in ("a.json", "b.json")]
    measure_verdict(VerdictConfig(), files[0])
    measure_verdict(VerdictConfig(quick=True), files[1])
    text = side_by_side([load_verdict(file) for file in files])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    (hrnet, _), (lite, *_) = ([row for row in rows if f"as {name}:" in row[0]] for name in ("HRNet", "Lite-HRNet-18"))
    assert (hrnet[1], hrnet[3]) == ("5.02", "–") and COST.subject not in text
    assert all(cell.startswith("✓✗ 3.0") for cell in (hrnet[2], *lite[2:]))
    assert main(["verdict", "--render", *map(str, files)]) == 0 and capsys.readouterr().out.strip().endswith(text[-40:])
    assert main(["verdict", "--render", *map(str, files), "--html", str(tmp_path / "x.html")]) == 2
    assert "--html" in capsys.readouterr().err


def test_other_files_are_refused(tmp_path, machine):
    file = tmp_path / "other.json"
    file.write_text('{"kind": "lgmpose bench"}')
    with pytest.raises(UserError, match=r"other\.json"):
        load_verdict(file)
    measure_verdict(VerdictConfig(quick=True), file)
    file.write_text(file.read_text().replace('"cpu"', '"gpu"'))
    with pytest.raises(UserError, match="cpu"):
        load_verdict(file)
    with pytest.raises(UserError, match=r"\.txt"):
        measure_verdict(VerdictConfig(), tmp_path / "v.txt")

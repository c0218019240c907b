"""README and model cards say what the result files say, and the result files what the weights themselves carry."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest

from lgmpose.inference.backends import OnnxBackend
from lgmpose.lab.slips import slips_table
from lgmpose.metrics import ERROR_KINDS
from lgmpose.zoo.catalogue import SHIPPED, WEIGHTS_FOLDER, load_weights, weights_hash

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=SHIPPED)
def shipped(request):
    return request.param, json.loads((WEIGHTS_FOLDER / f"{request.param}.json").read_text(encoding="utf-8"))


def test_result_file_belongs_to_the_weights(shipped):
    name, result = shipped
    path = WEIGHTS_FOLDER / result["weights"]
    assert path.name == f"{name}.safetensors" and weights_hash(path) == result["sha256"]
    _, card = load_weights(path)
    assert card["evaluation"]["figures"] == result["figures"]
    assert card["evaluation"]["per_joint"] == result["per_joint"]
    pytest.importorskip("onnxruntime")
    backend = OnnxBackend(path.with_suffix(".onnx"))
    assert backend.source["sha256"] == result["onnx"]["sha256"]
    assert backend.card["weights"] == {"file": path.name, "sha256": result["sha256"]}
    assert backend.card["precision"] == "int8" and path.with_suffix(".onnx").stat().st_size < 1.5e6


def test_model_card_and_readme_print_the_result_files_figures(shipped):
    name, result = shipped
    card = (WEIGHTS_FOLDER / f"{name}.md").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for metric, value in result["figures"].items():
        low, high = result["intervals_95"][metric]
        assert f"| {metric} | {value:.2f} % | {low:.2f} … {high:.2f} |" in card
    for joint, value in result["per_joint"]["PCK@0.2"].items():
        assert re.search(rf"\| {joint} \| {value:.2f} \|", card), joint
    assert result["sha256"] in card
    figures = ", ".join(f"{metric} {result['onnx'][metric]:.2f} %" for metric in result["figures"])
    assert f"MB): {figures}.\n" in card
    parts, metric = (result, result["training_persons"]), "PCK@0.2"
    shares = (result["figures"][metric], result["training_persons"][metric])
    assert "| within the threshold | {:.2f} | {:.2f} |".format(*shares) in card
    for kind, meaning in ERROR_KINDS.items():
        shares = [part["errors"][metric][kind] for part in parts]
        assert f"| {meaning} | {{:.2f}} | {{:.2f}} |".format(*shares) in card
    if name == SHIPPED[0]:
        figures = result["figures"]
        assert f"| {figures['PCK@0.2']:.1f} % | {figures['PCKh@0.5']:.1f} % |" in readme
        words = " ".join(readme.split())
        assert f"({result['onnx']['PCK@0.2']:.1f} % and {result['onnx']['PCKh@0.5']:.1f} %)" in words
        hours, count = sum(part["hours"] for part in result["parts"]), len(result["parts"])
        assert f"Training took {hours:.1f} hours in {count} parts" in words
        assert f"trained on PCK@0.2 is {result['training_persons']['PCK@0.2']:.1f} %" in words
        side = result["errors"]["PCK@0.2"]["side"]
        assert f"{side:.1f} % of all joints, lies where" in words
        limits = " ".join(card.split("## What limits it")[1].split())
        assert f"were never exchanged, PCK@0.2 would be at most {figures['PCK@0.2'] + side:.1f} %" in limits
        lead = result["training_persons"]["PCK@0.2"] - figures["PCK@0.2"]
        assert f"persons that it was trained on are {lead:.1f} points easier" in limits
        last = [f"{row['PCK@0.2']:.1f}" for row in result["log"] if "PCK@0.2" in row][-3:]
        assert f"({', '.join(last)})" in limits
        best = {row["phase"]: 0 for row in result["log"]}
        for row in result["log"]:
            best[row["phase"]] = max(best[row["phase"]], row.get("PCK@0.2", 0))
        ends = [best[number] for number, part in enumerate(result["parts"], 1) if part["image_hw"] == [128, 128]]
        *earlier, before, added = (f"{after - end:.1f}" for end, after in itertools.pairwise(ends))
        assert f"pairs of them added {', '.join([*earlier, before])} and {added} points" in words
        assert f"others by {added}, where the two pairs before had added {earlier[-1]} and {before}" in limits
        failures = card.split("## Failures, looked at")[1].split("\n## ")[0]
        assert failures.count("\n| ") == 24 + 2 and result["sha256"] in failures


def test_the_card_tells_what_was_tried_since():
    """What limits the weights is shown by what did not help; the logs are kept for these sentences' sake."""
    result = json.loads((WEIGHTS_FOLDER / f"{SHIPPED[0]}.json").read_text(encoding="utf-8"))
    tried = json.loads((ROOT / "results" / "trials_2026-11-27.json").read_text(encoding="utf-8"))
    card = " ".join((WEIGHTS_FOLDER / f"{SHIPPED[0]}.md").read_text(encoding="utf-8").split())
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    size, silu = tried["trials"]
    best = [[max(row.get("PCK@0.2", 0) for row in part["log"]) for part in trial["parts"]] for trial in (size, silu)]
    assert tried["from_sha256"] == result["sha256"]
    assert size["parts"][0]["config"]["image_hw"] == [192, 192] and f"at 192×192 ended at {best[0][0]:.1f} %" in card
    assert {part["config"]["activation"] for part in silu["parts"]} == {"silu"}
    found = tried["against_the_shipped"]["PCK@0.2"]
    assert found["relu6"] == round(result["figures"]["PCK@0.2"], 2) and found["silu"] == round(best[1][1], 2)
    low, high = found["difference_interval_95"]
    lead = f"{found['silu'] - found['relu6']:.1f} points"
    assert f"ended at {found['silu']:.1f} %: a lead of {lead} (−{-low:.1f} … {high:.1f}) that may be none" in card
    easier = tried["against_the_shipped"]["training_persons_PCK@0.2"]["silu"] - found["silu"]
    times = tried["speed"]["silu_over_relu6"]
    assert f"stay {easier:.1f} points easier, and SiLU takes {times['int8']:.2f} times as long in an 8-bit" in card
    assert f"({times['onnx']:.2f} in fp32 by ONNX Runtime)" in card
    assert f"{lead} of PCK@0.2 that may be none, and in 8 bits SiLU takes {times['int8']:.1f} times as long" in readme
    gaps = {row["name"]: row["train"] - row["val"] for row in tried["seen_and_unseen"]}
    assert f"(two and four parts ago: {gaps['part 5']:.1f} and {gaps['part 3']:.1f})" in card
    assert gaps["SiLU"] == pytest.approx(easier)


def test_what_limits_the_weights_is_drawn(tmp_path):
    from matplotlib.figure import Figure

    from lgmpose.lab.limits_figure import draw_limits

    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
        draw_limits(tmp_path / "limits.png")
    left, right = drawn[0].axes
    result = json.loads((WEIGHTS_FOLDER / f"{SHIPPED[0]}.json").read_text(encoding="utf-8"))
    points = [xy for line in left.lines for xy in line.get_xydata().tolist() if len(line.get_xdata()) > 2]
    for row in result["log"]:
        if "PCK@0.2" in row:
            assert [row["seconds"] / 3600, row["PCK@0.2"]] in points
    assert max(x for x, _ in points) > sum(part["hours"] for part in result["parts"]), "what was tried comes after"
    seen, unseen = (line.get_ydata() for line in right.lines[1:])
    assert (np.array(seen) > np.array(unseen)).all()


def test_the_card_tells_how_many_persons_count(shared_data):
    from lgmpose.data import load_records
    from lgmpose.inference.evaluate import Predictions, joint_results

    val = load_records(f"lspet:{shared_data / 'lspet_dataset.zip'}", "val")
    shape = (len(val), 14)
    none = Predictions(np.zeros((*shape, 2)), np.zeros(shape), np.zeros(len(val), bool))
    torso, head = (result.num_persons for result in joint_results(none, val, val.skeleton).values())
    card = " ".join((WEIGHTS_FOLDER / f"{SHIPPED[0]}.md").read_text(encoding="utf-8").split())
    assert f"{torso} of the {len(val)} persons have a torso, {head} a head whose ends are labelled" in card


@pytest.mark.parametrize("suffix", [".safetensors", ".onnx"])
def test_shipped_figures_are_reproduced_on_a_part_of_the_data(shipped, suffix, shared_data):
    """The first 60 validation persons, through the very file that ships; the rest is one command away."""
    from lgmpose.inference.evaluate import evaluate_weights

    name, result = shipped
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime")
    expected = dict((result["onnx"] if suffix == ".onnx" else result)["first_persons"])
    data, count = f"lspet:{shared_data / 'lspet_dataset.zip'}", expected.pop("count")
    evaluation = evaluate_weights(data, f"{name}{suffix}", limit=count, workers=0)
    assert evaluation.conditions["persons"] == str(count) and result["conditions"]["persons"] == "500"
    # A joint on the threshold's edge may fall either side on another processor; two of some 600 joints may, and in
    # 8 bits, where processors without VNNI round otherwise, a dozen.
    assert evaluation.figures == pytest.approx(expected, abs=2 if suffix == ".onnx" else 0.4)


def test_slips_are_those_of_the_code():
    assert slips_table() in (ROOT / "README.md").read_text(encoding="utf-8")


def test_speeds_are_those_of_the_result_file():
    from lgmpose.lab.bench import load_results
    from lgmpose.lab.paper import TABLES

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (file,) = set(re.findall(r"results/(bench_[\d-]+)\.md", readme))
    rows = load_results(ROOT / "results" / f"{file}.json").rows
    measured = {(row.label, tuple(row.image_hw), row.backend, row.threads): row for row in rows}
    published = {(row.name, row.image_hw): row.fps_cpu for row in TABLES[1] if row.fps_cpu}
    lines = re.findall(r"^\| (.+), (\d+)×(\d+) \| ([\d.]+) \| ([~\d. |]+) \|$", readme, re.MULTILINE)
    assert len(lines) == len(published) - 2, "one line per system with a published speed, but LGM-Pose's own"
    columns = [(backend, threads) for threads in (1, 2) for backend in ("eager", "eager-folded")]
    for name, height, width, paper, cells in lines:
        image_hw = int(height), int(width)
        assert paper == f"{published['LGM-Pose', image_hw] / published[name, image_hw]:.2f}", name
        ours = [measured[name, image_hw, *column] for column in columns]
        assert cells.split(" | ") == [f"{'~' if row.noise else ''}{row.ratio:.2f}" for row in ours], name
    # What is said below the table.
    for (name, _, _, _), row in measured.items():
        if name == "Small HRNet":
            assert 0.45 < row.ratio < 0.75
        elif row.ratio is not None and name != "LGM-Pose":
            assert row.ratio > 1, name


def fast_section() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Fast\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("size", ["256x192", "384x288"])
def test_speeds_of_runtimes_are_those_of_the_result_file(size):
    from lgmpose.lab.bench import load_results

    (file,) = set(re.findall(rf"results/(runtimes-{size}_[\d-]+)\.md", fast_section()))
    rows = load_results(ROOT / "results" / f"{file}.json").rows
    tables = re.split(r"^\| times LGM-Pose's time \|", fast_section(), flags=re.MULTILINE)[1:]
    head, _, *lines = tables[["256x192", "384x288"].index(size)].strip().split("\n")
    columns = [tuple(cell.split(", ")) for cell in head.strip(" |").split(" | ")[:-1]]
    measured = {(row.label, row.backend, str(row.threads)): row for row in rows}
    assert set(measured) == {(label, *column) for label in {row.label for row in rows} for column in columns}
    shown = lines[: lines.index("")] if "" in lines else lines
    assert len(shown) == len({row.label for row in rows})
    for line in shown:
        label, *cells, fastest = line.strip(" |").split(" | ")
        own = [measured[label, *column] for column in columns]
        assert cells == ["–" if r.ratio is None else f"{'~' if r.noise else ''}{r.ratio:.2f}" for r in own], label
        best = min((r for r in own if r.threads == 1 and r.median_ms), key=lambda r: r.median_ms)
        assert fastest == f"{best.median_ms:.1f} ms, `{best.backend}`", label


def test_what_is_said_of_the_runtimes_holds_in_the_result_files():
    from lgmpose.lab.bench import load_results

    text = " ".join(fast_section().split())
    at = {}
    for file in re.findall(r"results/(runtimes-[\dx_-]+|pipeline_[\d-]+)\.md", fast_section()):
        for row in load_results(ROOT / "results" / f"{file}.json").rows:
            where = row.image_hw[0] if "runtimes" in file else "pipeline"
            at[where, row.label, row.backend, row.threads, row.batch_size] = row
    ratio = {key: row.ratio for key, row in at.items() if row.ratio is not None}
    backends = ("eager", "onnxruntime", "openvino", "openvino-bf16", "openvino-int8")
    assert all(ratio[h, "small-hrnet", b, t, 1] < 0.7 for h in (256, 384) for b in backends for t in (1, 2))
    for name in ("mobilenetv2", "shufflenetv2", "mobilevit-xxs"):
        assert max(ratio[384, name, "eager", 1, 1], ratio[384, name, "eager", 2, 1]) < 0.75
    for name in ("lite-hrnet-18", "dite-hrnet-18"):
        assert ratio[384, name, "eager", 1, 1] < 0.8 and ratio[384, name, "eager", 2, 1] > 1
    for h in (256, 384):
        best = {
            name: min(at[h, name, b, 1, 1].median_ms for b in backends)
            for name in ("LGM-Pose", "LGM-Pose fast", "small-hrnet", "lite-hrnet-18")
        }
        assert best["small-hrnet"] < best["LGM-Pose fast"] < best["LGM-Pose"] < best["lite-hrnet-18"]
        lite = [ratio[h, "lite-hrnet-18", backend, 1, 1] for backend in ("openvino", "onnxruntime")]
        assert lite[0] < 0.96 and lite[1] == pytest.approx(1, abs=0.02)
    lead = {key: ratio[key] - ratio[key[0], "small-hrnet", *key[2:]] for key in ratio if key[1] == "LGM-Pose fast"}
    assert [b for b in backends if lead[256, "LGM-Pose fast", b, 1, 1] < -0.045] == ["onnxruntime", "openvino"]
    assert [b for b in backends if lead[384, "LGM-Pose fast", b, 1, 1] < 0] == ["openvino"]
    persons = {
        b: [f"{at['pipeline', 'LGM-Pose', b, 1, n].fps:.0f}" for n in (1, 5, 20)]
        for b in ("openvino-bf16", "onnxruntime", "eager-fast")
    }
    kept = load_results(ROOT / "results" / "keep-memory-384x288_2026-11-26.json").rows
    kept = {row.label: row.ratio for row in kept}
    assert (
        f"MobileNetV2 takes {kept['mobilenetv2']:.2f} of LGM-Pose's time and Lite-HRNet-18 "
        f"{kept['lite-hrnet-18']:.2f}, but ShuffleNetV2 stays ahead at {kept['shufflenetv2']:.2f}"
    ) in text
    assert not kept.keys() & {"mobilevit-xxs", "dite-hrnet-18"}, "said to be not tried"
    assert kept["mobilenetv2"] > ratio[384, "mobilenetv2", "eager", 1, 1] + 0.2
    own = {backend: at[256, "LGM-Pose", backend, 1, 1] for backend in backends}
    times = [f"{own[backend].median_ms:.1f}" for backend in backends]
    said = "{} ms in eager mode on one thread, {} in ONNX Runtime, {} in OpenVINO, {} there in bfloat16 and {} in 8"
    assert f"{said.format(*times)} bits" in text
    floors = {backend: f"{own[backend].floor_ms:.1f}" for backend in backends}
    shares = {backend: f"{own[backend].of_floor:.0%}" for backend in backends}
    assert f"takes {floors['openvino']} to {floors['onnxruntime']} ms in fp32" in text
    assert {shares["openvino"], shares["onnxruntime"]} == {"79%"} and "each reach 79% of that speed" in text
    assert f"OpenVINO passes it with {at[384, 'LGM-Pose', 'openvino', 1, 1].of_floor:.0%}" in text
    for backend, precision in (("openvino-bf16", "bfloat16"), ("openvino-int8", "8 bits")):
        assert f"{floors[backend]} in {precision} ({shares[backend]})" in text
    one, five, twenty = persons["openvino-bf16"]
    assert f"{one} persons a second one by one, {five} in pictures of 5 and {twenty} in pictures of 20 in Open" in text
    assert "{}, {} and {} in ONNX".format(*persons["onnxruntime"]) in text
    assert "{}, {} and {} in PyTorch".format(*persons["eager-fast"]) in text


def test_exported_files_figures_are_those_of_the_result_file():
    (file,) = set(re.findall(r"results/(export_[\d-]+)\.json", fast_section()))
    for name, found in json.loads((ROOT / "results" / f"{file}.json").read_text(encoding="utf-8")).items():
        faster, accuracy = found["speed"]["times_faster_than"], found["accuracy"]["exported"]["PCK@0.2"]
        same = faster.get("fp32 in the same runtime")
        line = f"| {name} | {found['largest_difference']['crops']:.1e} | {accuracy:.2f} | {faster['eager']:.2f} | "
        assert line + ("–" if same is None else f"{same:.2f}") + " |" in fast_section(), name


def test_the_training_steps_figures_are_those_of_the_result_file():
    from lgmpose.lab.bench.training import SETTINGS

    (file,) = set(re.findall(r"results/(training_[\d-]+)\.md", fast_section()))
    summary = json.loads((ROOT / "results" / f"{file}.json").read_text(encoding="utf-8"))["summary"]
    for name in next(iter(summary.values())):
        cells = [f"{side[name]['times_plain'][0]:.2f}" for side in summary.values()]
        assert f"| `{name}`: {SETTINGS[name].what} | {' | '.join(cells)} |" in fast_section(), name
    small, large = (summary[side]["default"] for side in ("128", "256"))
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"batches {small['loader_times']:.0f} and {large['loader_times']:.0f} times faster than `default`" in text
    assert f"by {max(small['of_seed_noise'], large['of_seed_noise']):.1%} of what another seed changes" in text
    assert f"Two CPU cores did {large['rate']:.1f} a second at 256×256" in text


def test_the_evaluation_jobs_figures_are_those_of_the_result_file():
    (file,) = set(re.findall(r"results/(evaluation_[\d-]+)\.md", fast_section()))
    result = json.loads((ROOT / "results" / f"{file}.json").read_text(encoding="utf-8"))
    assert result["by_boxes"]["same_persons"] and result["by_boxes"]["same_ap"]
    text = " ".join(fast_section().split())
    assert f"{result['total_s']:.1f} s and {result['peak_mb']:.0f} MB" in text
    assert f"{result['by_boxes']['ratio'][0]:.1f} times as long" in text


def test_ablations_and_peers_are_those_of_the_result_file():
    from lgmpose.lab.ablate import ABLATIONS, NETWORKS, PEERS, STORED, compare

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("\n## What each part buys\n")[1].split("\n## ")[0]
    results = json.loads(STORED.read_text(encoding="utf-8"))
    rows = {row.name: row for row in compare(results)}
    speeds = results["speed"]["variants"]
    lines = [line for line in section.splitlines() if re.match(r"\| (?!changed|network|---)", line)]
    lines = [line.strip("| ").split(" | ") for line in lines]
    for cells, name in zip(lines, [*ABLATIONS, *PEERS], strict=True):
        row, variant, params = rows[name], NETWORKS[name], results["costs"][name]["params"]
        difference = f", {row.differences['PCKh@0.5']}" if row.differences else ""
        paper = variant.paper_pckh if name == "lgm-pose" else variant.paper_difference
        if name != "lgm-pose" and paper is not None:
            paper = f"{paper:+.1f}".replace("-", "−")
        assert cells == [
            variant.label, "–" if paper is None else str(paper), f"{row.figures['PCKh@0.5']:.1f}{difference}",
            f"{params / 1e6:.2f} M", f"{speeds[name]['ratio'][0]:.2f}", row.verdict or "–",
        ], name  # fmt: skip
    # What is said below the tables.
    verdicts = {name: row.verdict for name, row in rows.items() if name in ABLATIONS}
    assert verdicts.pop("mobilevit") == "does not hold" and verdicts.pop("fusion-none") == "holds"
    assert verdicts.pop("larm-between") == "better" and verdicts.pop("larm-no-residual") == "worse"
    assert set(verdicts.values()) == {"", "cannot be told"}
    points = {name: row.differences["PCKh@0.5"].points for name, row in rows.items() if row.differences}
    params = {name: cost["params"] for name, cost in results["costs"].items()}
    assert min(points[name] for name in ("larm-within", "larm-between", "larm-identity")) > 0
    assert 2.4 < params["mobilevit"] / params["lgm-pose"] < 2.6 and 0.6 < speeds["mobilevit"]["ratio"][0] < 0.72
    assert points["small-hrnet"] > 0 and speeds["small-hrnet"]["ratio"][0] > 1
    assert points["lite-hrnet-18"] > 0 and 2.7 < 1 / speeds["lite-hrnet-18"]["ratio"][0] < 3.3
    assert sorted(points, key=points.get)[:2] in (["mobilenetv2", "shufflenetv2"], ["shufflenetv2", "mobilenetv2"])
    assert rows["lgm-pose-fast"].verdict == "worse"
    assert f"it is {-points['lgm-pose-fast']:.1f} points of PCKh@0.5 behind" in readme


def test_the_recipes_are_those_of_the_result_file():
    from lgmpose.lab.ablate import NETWORKS, PEERS, STORED, compare
    from lgmpose.lab.ablate.recipe_rows import BASELINE, CHOICES

    section = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## What the recipe buys\n")[1].split("\n## ")[0]
    rows = [row for row in compare(json.loads(STORED.read_text(encoding="utf-8"))) if row.name in (BASELINE, *CHOICES)]
    for row in rows:
        difference = f", {row.differences['PCKh@0.5']}" if row.differences else ""
        cells = [NETWORKS[row.name].label, f"{row.figures['PCKh@0.5']:.1f}{difference}", " ".join(map(str, row.seeds))]
        assert f"\n| {' | '.join([*cells, row.verdict or '–'])} |\n" in section, row.name
        assert row.name in section, "in the command"
    assert section.count("\n| ") == len(rows) + 2
    # What is said below the table.
    rows = {row.name: row for row in compare(json.loads(STORED.read_text(encoding="utf-8")))}
    points = {name: row.differences["PCKh@0.5"].points for name, row in rows.items() if row.differences}
    assert points["silu"] == max(points[name] for name in points if name not in PEERS)
    for name in ("constant-rate", "rate-4e-3", "batch-16"):
        assert rows[name].verdict == "better" and 2 < points[name] / points["mobilevit"] < 2.5, name
    assert rows["rate-1e-3"].verdict == "worse" and abs(points["rate-1e-3"] - points["fusion-none"]) < 1
    assert rows["mobilevit-relu6"].verdict == "better" and points["mobilevit-relu6"] > points["mobilevit"]
    for name in ("no-ema", "limb-weights", "occlusion", "rotation-20", "rotation-90"):
        assert rows[name].verdict == "cannot be told", name
    assert rows["scale-0.35"].verdict == rows["sigma-2"].verdict == "worse"

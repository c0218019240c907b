"""Write the tables and the figure of README and docs from the stored results: ``make docs-figures``.

A document marks each generated part, and everything between the two marks is replaced::

    <!-- begin: NAME -->
    <!-- end -->

``BLOCKS`` maps each name to the function that makes its text.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS, WEIGHTS = ROOT / "results", ROOT / "lgmpose" / "weights" / "lgm-pose-lspet-128x128.json"
DEFAULT = WEIGHTS.with_name("lgm-pose-coco-256x192.json")  # of the default weights
MPII = WEIGHTS.with_name("lgm-pose-mpii-256x256.json")
PICTURE = ROOT / "docs" / "_static" / "results.png"
MARKED = re.compile(r"(<!-- begin: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
MPII_MODEL = "lgm-pose-mpii-256x256"  # Tables 3 to 5
RUNTIMES = ("eager", "onnxruntime", "openvino", "openvino-bf16", "openvino-int8")


@cache
def load(path: Path | str) -> dict:
    """Return a result file; a name such as ``bench_*`` stands for the newest file of that kind."""
    path = path if isinstance(path, Path) else max(RESULTS.glob(f"{path}.json"))
    return json.loads(path.read_text(encoding="utf-8"))


def rows_of(name: str, image_hw: list[int] | None = None) -> dict[tuple[str, str, int], dict]:
    """Return (network, backend, threads) → row of a stored benchmark; ``image_hw`` chooses one of its input sizes."""
    return {
        (row["label"].rpartition(":")[2], row["backend"], row["threads"]): row
        for row in load(name)["rows"] if image_hw in (None, row["image_hw"])
    }  # fmt: skip


def stored_table(name: str) -> str:
    """Return the table of the newest stored page of a kind."""
    lines = max(RESULTS.glob(f"{name}_*.md")).read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if line.startswith("|"))


def table(head: str, rows: list[list[object]]) -> str:
    """Return a Markdown table. ``head`` has the column titles, separated by `` | ``."""
    titles = head.split(" | ")
    lines = [titles, ["---"] * len(titles), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rounded(metric: str, value: float) -> str:
    """Return ``66.2 %`` for PCK and PCKh, which are in per cent, and ``0.368`` for AP."""
    return f"{value:.1f} %" if metric.startswith("PCK") else f"{value:.3f}"


def shown(found: dict, metric: str) -> str:
    """Return a figure, with its 95 % interval where there is one: ``66.2 % (63.3 … 68.9)``."""
    ends = [rounded(metric, end).removesuffix(" %") for end in found["intervals_95"].get(metric, ())]
    return rounded(metric, found["figures"][metric]) + (f" ({' … '.join(ends)})" if ends else "")


# Weights


def weights(path: Path, persons: str, training_persons: str = "") -> str:
    result, rows = load(path), []
    # The file of the sports weights does not say how many persons count. The other evaluation is of the same persons.
    counted = load("boxes-shifted_*" if path == WEIGHTS else path)["conditions"]
    for metric in ("AP", "AP50", "AP75", "PCKh@0.5", "PCK@0.2"):
        if metric in result["figures"]:
            count = counted.get(f"persons in {metric}")
            row = [metric, shown(result, metric) + (f", {count} counted" if count else "")]
            parts = ("onnx", "training_persons") if training_persons else ("onnx",)
            rows.append([*row, *(rounded(metric, result[part][metric]) for part in parts)])
    head = f"metric | {persons} (95 % interval) | the same, 8-bit file"
    return table(f"{head} | {training_persons}" if training_persons else head, rows)


def wrong_joints() -> str:
    from lgmpose.lab.model_card import error_table

    return error_table(load(WEIGHTS))


def other_boxes() -> str:
    metric, rows = "PCK@0.2", []
    for boxes, option, found in (
        ("around the true joints", "given", load(WEIGHTS)),
        ("the same, moved by up to 10 % of their sides and scaled by 0.8 to 1.25", "shifted", load("boxes-shifted_*")),
        ("none: the network searches the whole picture for the person", "none", load("boxes-none_*")),
    ):
        rows.append([boxes, f"`--boxes {option}`", shown(found, metric)])
    return table(f"boxes | option of `lgmpose eval` | {metric} (95 % interval)", rows)


def agreement() -> str:
    found = load("label-agreement_*")
    perfect, rows = found["a perfect network (estimated)"], []
    for metric in found["annotators"]["figures"]:
        cells = [shown(found[who], metric) for who in ("annotators", "network")]
        rows.append([metric, *cells, *(rounded(metric, noise[metric]) for noise in perfect.values())])
    return table("metric | one annotator, measured by the other | the weights for sports people, on the same joints | "
                 "a perfect network, if both labels are imprecise | if one is wrong", rows)  # fmt: skip


def lspet_changes() -> str:
    found, rows = load("lspet-changes_*"), []
    meaning = {
        "exchanged": "left and right are exchanged (pairs of joints)",
        "moved": "the label is more than 15 % of the person's size away",
        "filled": "there is no label",
    }
    for kind, count in found["changes"].items():
        seen = [row["verdict"] for row in found["looked_at"] if row["kind"] == kind]
        rows.append([meaning[kind], f"{count:,}", *(seen.count(word) for word in ("right", "wrong", "unclear"))])
    return table("what is changed | changes | looked at: the change is right | wrong | unclear", rows)


# Costs


def costs() -> str:
    from lgmpose import create_model, profile
    from lgmpose.lab.paper import published

    mpii = MPII_MODEL
    networks = [
        ("Table 1", "lgm-pose-coco-256x192", {}),
        ("Table 1", "lgm-pose-coco-384x288", {}),
        ("Tables 3 to 5, SFusion", mpii, {}),
        ("Table 5, no fusion", mpii, {"fusion": "none"}),
        ("Table 5, conv 3×3", mpii, {"fusion": "conv3x3"}),
        ("Table 5, DW g = 1", mpii, {"fusion": "dw1"}),
        ("Table 5, DW g = 2", mpii, {"fusion": "dw2"}),
        ("Table 4, MobileViT block", mpii, {"global_block": "mobilevit"}),
    ]
    rows = []
    for where, model, options in networks:
        net = create_model(model, **options)
        cost, (height, width) = profile(net), net.config.image_hw
        words = "".join(f" --{name.replace('_', '-')} {value}" for name, value in options.items())
        printed = published(model, **options)
        rows.append([where, f"{height}×{width}", f"`lgmpose profile --model {model}{words}`", f"{cost.params:,}",
                     f"{cost.macs:,}", f"{printed.params}, {printed.flops}"])  # fmt: skip
    return table("in the paper | input | command | parameters | MACs | the paper prints", rows)


def recovered() -> str:
    from lgmpose.lab.recovery import tags_table

    return tags_table(load("search_*"))


# Speed


def mark(*rows: dict) -> str:
    """Return ~ if single times of a row scatter by more than a tenth of their median."""
    return "~" if any(row.get("noise") for row in rows) else ""


def ratio(row: dict) -> str:
    """Return a time ratio, see ``mark``."""
    return "–" if row.get("ratio") is None else f"{mark(row)}{row['ratio']:.2f}"


def table_1() -> str:
    from lgmpose.lab.paper import TABLES

    published = {(row.name, row.image_hw): row.fps_cpu for row in TABLES[1] if row.fps_cpu}
    rows = []
    for (name, hw), fps in published.items():
        if name != "LGM-Pose":
            at = rows_of("bench_*", [*hw])
            cells = [ratio(at[name, backend, n]) for n in (1, 2) for backend in ("eager", "eager-folded")]
            rows.append([name, f"{hw[0]}×{hw[1]}", f"{published['LGM-Pose', hw] / fps:.2f}", *cells])
    return table("network | input | paper | 1 thread | 1, folded | 2 threads | 2, folded", rows)


def runtimes(size: str) -> str:
    at, rows = rows_of(f"runtimes-{size}_*"), []
    for label in dict.fromkeys(label for label, _, _ in at):
        cells = [ratio(at[label, backend, n]) for n in (1, 2) for backend in RUNTIMES]
        timed = [at[label, backend, 1] for backend in RUNTIMES if at[label, backend, 1].get("median_ms")]
        best = min(timed, key=lambda row: row["median_ms"])
        rows.append([label, *cells, f"{best['median_ms']:.1f} ms, `{best['backend']}`"])
    columns = [f"{backend}, {n}" for n in (1, 2) for backend in RUNTIMES]
    return table(" | ".join(["network", *columns, "fastest, 1 thread"]), rows)


def rtmpose() -> str:
    at = rows_of("rtmpose_*")
    measured = [(backend, threads) for backend in ("eager", "onnxruntime", "openvino", "openvino-bf16")
                for threads in (1, 2)]  # fmt: skip
    labels = dict.fromkeys(label for label, _, _ in at)
    rows = [[label, *(ratio(at[label, *setting]) for setting in measured)] for label in labels]
    ours = [at[rows[0][0], *setting] for setting in measured]
    rows[0][1:] = [f"{mark(row)}{row['median_ms']:.1f} ms" for row in ours]
    return table(" | ".join(["network", *(f"{backend}, {threads}" for backend, threads in measured)]), rows)


def decide() -> str:
    """The networks that a user may pick: milliseconds in each runtime, and what is known of their accuracy."""
    from lgmpose.lab.paper import TABLES

    paper = {row.name: row.ap for row in TABLES[1] if row.image_hw == (256, 192)}
    ours = load(DEFAULT)["figures"]["AP"]
    at, backends = rows_of("next_*"), ("onnxruntime", "openvino", "openvino-bf16", "onnxruntime-int8", "openvino-int8")
    rows = []
    for label, name, weights, reported in (
        ("lgm-pose-coco-256x192", "LGM-Pose", f"here: AP {ours:.3f} on 350 pictures", paper["LGM-Pose"]),
        ("rtmpose-t", "RTMPose-t", "from its authors", 68.5),  # reported by them, arXiv 2303.07399
        ("small-hrnet", "Small HRNet", "none here", paper["Small HRNet"]),
        ("lgm-pose-fast-coco-256x192", "LGM-Pose fast", "none", None),
        ("lgm-pose-next-coco-256x192", "LGM-Pose-next", "none", None),
    ):
        timed = [at[label, backend, 1] for backend in backends]
        times = [f"{mark(row)}{row['median_ms']:.1f}" for row in timed]
        rows.append([name, *times, weights, "–" if reported is None else f"{reported / 100:.3f}"])
    return table(" | ".join(["network", *backends, "trained weights", "reported AP"]), rows)


def next_variants() -> str:
    """Networks by name, with parameters, MACs and ratios in each runtime."""
    at, rows = rows_of("next_*"), []
    backends = load("next_*")["header"]["settings"]["backends"]
    for label in dict.fromkeys(label for label, _, _ in at):
        row = at[label, backends[0], 1]
        rows.append([label.replace("_", " "), f"{row['params'] / 1e6:.2f} M", f"{row['macs'] / 1e6:.0f} M",
                     *(ratio(at[label, backend, 1]) for backend in backends)])  # fmt: skip
    return table(" | ".join(["network", "parameters", "MACs", *backends]), rows)


def eight_bits() -> str:
    """How many times as fast 8 bits are as fp32 in the same runtime, in the run of ``next_variants``."""
    at, rows = rows_of("next_*"), []
    for label in ("lgm-pose-coco-256x192", "lgm-pose-next-coco-256x192", "no_global_block", "silu",
                  "lgm-pose-fast-coco-256x192", "rtmpose-t", "small-hrnet"):  # fmt: skip
        cells = []
        for runtime in ("onnxruntime", "openvino"):
            plain, small = at[label, runtime, 1], at[label, f"{runtime}-int8", 1]
            cells.append(f"{mark(plain, small)}{plain['median_ms'] / small['median_ms']:.2f}")
        name = label if "-" in label else f"LGM-Pose-next, {label.replace('_', ' ')}"
        rows.append([name, *cells])
    return table("network | ONNX Runtime: times as fast as fp32 | OpenVINO: times as fast as fp32", rows)


def eager_384x288() -> str:
    """Three stored runs of the same measurement, whose ratios differ in their side of 1."""
    names = {"MobileNetV2 1": "mobilenetv2", "ShuffleNetV2 1": "shufflenetv2", "Small HRNet": "small-hrnet",
             "Lite-HRNet-18": "lite-hrnet-18", "Lite-HRNet-30": "lite-hrnet-30", "Dite-HRNet-18": "dite-hrnet-18",
             "Dite-HRNet-30": "dite-hrnet-30"}  # fmt: skip
    first, second = rows_of("bench_*", [384, 288]), rows_of("runtimes-384x288_*")
    kept = rows_of("keep-memory-384x288_*")
    rows = []
    for name, model in names.items():
        key = (model, "eager", 1)
        third = ratio(kept[key]) if key in kept else "–"
        rows.append([name, ratio(first[name, "eager", 1]), ratio(second[key]), third])
    return table("network | first run (PyTorch 2.15) | second run (2.14) | third run (2.14), freed memory kept", rows)


def verdicts() -> str:
    from lgmpose.lab.verdict.claim_timing import load_verdict
    from lgmpose.lab.verdict.verdict_card import side_by_side

    stored = [load_verdict(path) for path in RESULTS.glob("verdict_*.json")]
    stored.sort(key=lambda verdict: verdict.header["date"])
    return side_by_side(stored)


def matrix_products() -> str:
    rows = []
    for size in ("256x192", "384x288"):
        at = rows_of(f"runtimes-{size}_*")
        for backend in RUNTIMES:
            row = at["LGM-Pose", backend, 1]
            share = "–" if row.get("of_floor") is None else f"{row['of_floor']:.0%}"
            cells = f"{mark(row)}{row['median_ms']:.1f} ms", f"{mark(row)}{share}"
            rows.append([size.replace("x", "×"), backend, *cells])
    return table("input | backend | LGM-Pose, 1 thread | speed relative to the matrix product", rows)


def exported() -> str:
    rows = []
    for name, found in load("export_*").items():
        faster = found["speed"]["times_faster_than"]
        same = faster.get("fp32 in the same runtime")
        rows.append([f"`{name}`", f"{found['largest_difference']['crops']:.1e}",
                     f"{found['accuracy']['exported']['PCK@0.2']:.2f}", f"{faster['eager']:.2f}",
                     "–" if same is None else f"{same:.2f}"])  # fmt: skip
    head = "format | largest difference of a heatmap | PCK@0.2, % | × as fast as PyTorch | × fp32 in the same runtime"
    return table(head, rows)


def pipeline() -> str:
    at = {(r["label"], r["backend"], r["threads"], r["batch_size"]): r for r in load("pipeline_*")["rows"]}
    rows = [
        [backend, *(f"{at['LGM-Pose', backend, 1, persons]['fps']:.0f}" for persons in (1, 5, 20))]
        for backend in ("eager-fast", "onnxruntime", "openvino-bf16")
    ]
    return table("persons per second, 1 thread | 1 person per picture | 5 | 20", rows)


def training_step() -> str:
    meaning = {
        "plain": "a plain PyTorch loop",
        "allocator": "… that keeps freed memory",
        "channels_last": "… and uses channels_last",
        "default": "… and a fused optimizer; this is what `lgmpose train` does",
        "bf16": "the same under bfloat16 autocast (`--precision bf16`)",
    }
    summary = load("training_*")["summary"]
    rows = [
        [f"`{name}`", text, *(f"{summary[size][name]['times_plain'][0]:.2f}" for size in ("128", "256"))]
        for name, text in meaning.items()
    ]
    return table("setting | what it is | × pictures per second at 128×128 | at 256×256", rows)


def training_time() -> str:
    from lgmpose.lab.paper import published

    rate_here = load("training_*")["summary"]["256"]["default"]["rate"]
    pixels = 256 * 192
    rows = []
    for model, persons in (
        ("lgm-pose-coco-256x192", 150_000), ("lgm-pose-coco-384x288", 150_000), (MPII_MODEL, 22_000)
    ):  # fmt: skip
        row = published(model)
        hw, reported = row.image_hw, f"AP {row.ap}" if row.pckh is None else f"PCKh@0.5 {row.pckh}"
        seen = 260 * persons
        gpu_hours = seen / (300 * pixels / (hw[0] * hw[1])) / 3600
        cpu_days = seen / (rate_here * 256 * 256 / (hw[0] * hw[1])) / 86400
        rows.append([f"`{model}`", f"260 × {persons:,}", f"{gpu_hours:.0f} h", f"{gpu_hours / 7.2:.0f} h",
                     f"{cpu_days:.0f} days", reported])  # fmt: skip
    head = "model | training persons | one GPU (estimated) | eight GPUs (estimated) | two CPU cores | the paper reports"
    return table(head, rows)


# Ablations


def family(name: str) -> str:
    """Return the table of one family of comparisons with LGM-Pose, and what it could have found."""
    from lgmpose.lab.ablate import FAMILIES
    from lgmpose.lab.ablate.comparisons import family_note, family_table

    results = load("ablations")
    return f"{family_table(results, FAMILIES[name])}\n\n{family_note(results, FAMILIES[name])}"


def photo() -> str:
    """A photo from detector to joints: each network with the number of people at once that was fastest."""
    result = load("photo_*")
    at = {(r["name"], r["people"], r["batch_size"], r["part"]): r["median_ms"] for r in result["rows"]}
    detectors = ", ".join(f"{name} {ms:.1f} ms" for (name, _, _, part), ms in at.items() if part == "detector")
    best: dict[tuple[str, int], tuple[float, int]] = {}
    for (name, people, size, part), ms in at.items():
        if part == "all":
            best[name, people] = min(best.get((name, people), (math.inf, 0)), (ms, size))
    rows = [
        [name, str(people), str(size), *(f"{at[name, people, size, part]:.1f}" for part in PHOTO_PARTS), f"{ms:.1f}"]
        for (name, people), (ms, size) in best.items()
    ]
    head = "network | people | fastest with … at once | crops, ms | network, ms | decoding, ms | all three, ms"
    return f"{table(head, rows)}\n\nDetectors, one photo: {detectors}."


def ablation_costs() -> str:
    from lgmpose.lab.ablate.run_table import costs_table

    return costs_table(load("ablations"))


PHOTO_PARTS = ("crops", "network", "decode")
LSPET = "lspet:data/lspet/lspet_dataset.zip"
ON_LSPET = f"--data {LSPET} --weights lgm-pose-lspet-128x128.safetensors"
STORED = {  # the beginning of a result file's name, what is in it, the command; "": the file's own, see command_of
    "few-pictures": ("accuracy with 10 to 500 labelled persons", "lgmpose lab few-pictures --data mpii:FOLDER"),
    "ablations": ("short trainings with one change each, and of other networks", ""),
    "boxes-none": ("the weights for sports people, without boxes", f"lgmpose eval {ON_LSPET} --boxes none --json FILE"),
    "boxes-shifted": ("the same, boxes shifted", f"lgmpose eval {ON_LSPET} --boxes shifted --json FILE"),
    "bench": ("the networks of the paper's Table 1 in PyTorch", ""),
    "export": ("exported files compared with PyTorch; the command was called for each format",
               f"lgmpose export --format FORMAT --verify {ON_LSPET} --out NET --json FILE"),
    "keep-memory": ("eager mode with freed memory kept", ""),
    "label-agreement": ("how well two annotators agree", ""),
    "limits": ("a short training with fewer persons, less time, fewer pixels, or another network",
               "python data_scripts/compare_recipes.py data_scripts/recipes_limits.toml --out runs/limits --jobs 2"),
    "lspet-changes": ("wrong labels of LSPET, and what was seen in a sample of them", ""),
    "lspet-corrected": ("what LSPET's corrected labels change in a short training",
                        "python data_scripts/compare_recipes.py data_scripts/recipes_lspet.toml "
                        "--out runs/recipes-lspet --jobs 2"),
    "next": ("LGM-Pose-next, and the same with one choice changed", ""),
    "photo": ("a photo from detector to joints, part by part",
              "python data_scripts/time_photo.py --poses FILES --detectors DETECTORS --out results/photo"),
    "pipeline": ("from a picture to the joints", ""),
    "recipes": ("what the teacher, each data set and parts of the recipe change in a short training",
                "python data_scripts/compare_recipes.py data_scripts/recipes_coco.toml --out runs/recipes --jobs 2"),
    "rtmpose": ("RTMPose, PP-TinyPose and other networks in three runtimes", ""),
    "runtimes": ("networks in PyTorch, ONNX Runtime and OpenVINO", ""),
    "search": ("networks with all costs that the paper prints", ""),
    "training": ("pictures per second of a training step",
                 "lgmpose lab bench-training --rounds 3 --steps 5 --threads 2 --json FILE"),
    "verdict": ("the paper's claims, tested on one machine", ""),
    "trials": ("what was tried after the weights for sports people; the file has the commands",
               "lgmpose train --init-weights WEIGHTS"),
}  # fmt: skip


def command_of(result: dict) -> str:
    """Return the command that a result file keeps; for ``lgmpose bench``, the one of its settings."""
    if "command" in result:
        return result["command"].replace("PATH/", "data/lspet/").replace("lspet:PATH", LSPET)
    settings, rows = result["header"]["settings"], result["rows"]
    tables = sorted({row["table"] for row in rows if row.get("table")})
    words = ["lgmpose bench"]
    if tables:
        words += ["--tables", *tables]
    else:
        words += ["--models", *dict.fromkeys(row["model"] for row in rows), "--image-hw", *rows[0]["image_hw"]]
    words += ["--backends", *settings["backends"], "--threads", *settings["threads"]]
    if settings["batch_sizes"] != [1]:
        words += ["--batch-sizes", *settings["batch_sizes"]]
    if settings["scope"] != "network":
        words += ["--scope", settings["scope"]]
    if settings.get("clock", "wall") != "wall":
        words += ["--clock", settings["clock"], "--runs", settings["runs"], "--warmup", settings["warmup"]]
    words += ["--seconds", f"{settings['seconds']:g}", *["--keep-memory"] * settings["keep_memory"], "--json FILE"]
    return " ".join(map(str, words))


def kept_with(result: object) -> str:
    """Return which of commit, machine and versions a result file names somewhere."""
    keys = set(re.findall(r'"(\w+)":', json.dumps(result)))
    named = {"commit": {"commit"}, "machine": {"cpu", "machine"}, "versions": {"versions", "torch", "python"}}
    return ", ".join(name for name, words in named.items() if words & keys) or "–"


def results() -> str:
    rows = []
    for path in sorted(RESULTS.glob("*.json")):
        meaning, command = next(STORED[start] for start in STORED if path.name.startswith(start))
        text = path.with_suffix(".md") if path.with_suffix(".md").is_file() else path
        command = command or command_of(load(path))
        rows.append([f"[{path.stem}](../results/{text.name})", meaning, f"`{command}`", kept_with(load(path))])
    return table("file | content | command | the file records its", rows)


def shapes() -> str:
    """Run the network once and note what its blocks receive and return."""
    import torch

    from lgmpose import create_model
    from lgmpose.network.modules import LARM, MLPBlock, MobileViM, SFusion

    net, rows = create_model("lgm-pose-coco-256x192").eval(), []

    def note(name: str):
        def hook(module, inputs, output):
            taken = " and ".join(f"({', '.join(map(str, x.shape))})" for x in inputs)
            rows.append([f"`{name}`", type(module).__name__, taken, f"({', '.join(map(str, output.shape))})"])

        return hook

    shown, others = (LARM, MLPBlock, MobileViM, SFusion), ("stem", "stages.0", "stages.1", "stages.4", "head")
    for name, module in net.named_modules():
        if isinstance(module, shown) or name in others:
            module.register_forward_hook(note(name))
    with torch.inference_mode():
        net(torch.zeros(1, 3, 256, 192))
    return table("in the code | module | takes | returns", rows)


def results_pages() -> str:
    """Return the contents of the sidebar: the pages of result files by their file names, which are short."""
    pages = [path.stem for path in sorted(RESULTS.glob("*.md"))]
    cards = [f"../lgmpose/weights/{card.stem}" for card in sorted(WEIGHTS.parent.glob("*.md"))]
    lines = [*cards, *(f"{name} <../results/{name}>" for name in pages)]
    return "\n".join(["```{toctree}", ":hidden:", "", *lines, "```"])


# The paper, the lessons


def slips() -> str:
    from lgmpose.lab.slips import slips_table

    return slips_table()


def rooms() -> str:
    import ast

    rows = []
    order = re.search(r"ROOMS = \((.*?)\)", (ROOT / "tests/project/test_rooms.py").read_text(encoding="utf-8"), re.S)
    for room in re.findall(r'"(\w+)"', order[1]):
        path = ROOT / "lgmpose" / room
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        doc = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
        first = " ".join(doc.split("\n\n")[0].split()).replace("``", "`")
        name = f"[{room}](api/{room}.md)" if path.is_dir() else f"`{room}.py`"
        rows.append([name, first])
    return table("room | what it holds", rows)


# Lessons of a meeting, and what is done together. The minutes are read from the notebooks.
FOUR_WEEKS = (
    ("00 01", "draw four pixels, their centres, a mirror: where is the middle? Then a Gaussian and its logarithm"),
    ("02", "channels × channels as a table of squares (parameters), times pixels (MACs)"),
    ("03 04", "shuffle six cards: lay two rows, read by columns. Then NPT-Op with 24 cards on a grid of 4 × 6"),
    ("05 06", "three students are tokens: who listens to whom? Two columns: what attention costs, what LARM cannot do"),
    ("07 08", "give out Table 1 alone and ask for the widths. Draw a printed 0.8 M as an interval, rounded and cut"),
    ("09 10", "three point pairs, six unknowns. Start a training of four minutes, predict its curve, then look"),
    ("11 12", "five ranked proposals, precision and recall by hand. Each pair brings the times of their own laptop"),
    ("13 14", "one row of the paper, one interval: does it contain 0? Then each group shows its own app"),
)
NINE_WEEKS = ("00", "01", "02 03", "04 05", "06 07", "08", "09 10", "11 12", "13 14")


@cache
def lesson_heads() -> dict[str, tuple[str, str, tuple[int, int, int], str]]:
    """Return file name, question, minutes (reading, tasks, exercises) and prerequisites of each lesson."""
    found = {}
    for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        text = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
        minutes = [int(number) for number in re.findall(r"\d+", re.search(r"\*\*About (.*?)\*\*", text)[1])]
        needs = " ".join(re.search(r"You need (.*?\.)(?:\s|$)", text, re.DOTALL)[1].split())
        needs = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", needs).rstrip(".")
        found[path.name[:2]] = path.name, re.search(r"# \d\d · (.*)\n", text)[1], tuple(minutes), needs
    return found


def lessons() -> str:
    rows = [
        [f"[{number}](../notebooks/{name})", title, sum(minutes), f"[solutions](../notebooks/solutions/{name})"]
        for number, (name, title, minutes, _) in lesson_heads().items()
    ]
    return table("lesson | question | minutes | exercises solved", rows)


def teaching() -> str:
    heads = lesson_heads().items()
    rows = [[f"[{number}]({name})", title, *minutes, needs] for number, (name, title, minutes, needs) in heads]
    rows.append(["", "all, hours", *(f"{sum(head[2][i] for _, head in heads) / 60:.0f}" for i in range(3)), ""])
    return table("# | question | reading, min | tasks, min | exercises, min | needs", rows)


def weeks(plan: tuple) -> str:
    rows = []
    for meeting, entry in enumerate(plan, 1):
        wanted, board = entry if isinstance(entry, tuple) else (entry, "")
        numbers = wanted.split()
        reading, tasks, exercises = (sum(lesson_heads()[number][2][i] for number in numbers) for i in range(3))
        row = [meeting, ", ".join(numbers), f"{reading + tasks} min", f"{exercises} min"]
        rows.append([*row, board] if board else row)
    head = "meeting | lessons | before it: reading and tasks | after it: exercises"
    return table(f"{head} | on the board, and together" if board else head, rows)


BLOCKS = {
    "weights": lambda: weights(WEIGHTS, "500 validation persons", "500 training persons"),
    "weights-coco": lambda: weights(DEFAULT, "854 persons of 350 pictures of val2017"),
    "weights-mpii": lambda: weights(MPII, "216 persons", "500 training persons"),
    "recipes-coco": lambda: stored_table("recipes"), "recipes-limits": lambda: stored_table("limits"),
    "recipes-lspet": lambda: stored_table("lspet-corrected"), "few-pictures": lambda: stored_table("few-pictures"),
    "other-boxes": other_boxes,
    "wrong-joints": wrong_joints, "agreement": agreement, "lspet-changes": lspet_changes,
    "costs": costs, "recovered": recovered, "table-1": table_1,
    "runtimes-256x192": lambda: runtimes("256x192"), "runtimes-384x288": lambda: runtimes("384x288"),
    "eager-384x288": eager_384x288, "matrix-products": matrix_products, "exported": exported, "pipeline": pipeline,
    "rtmpose": rtmpose, "decide": decide, "next": next_variants, "eight-bits": eight_bits, "photo": photo,
    "verdicts": verdicts,
    "training-step": training_step, "training-time": training_time,
    "ablations": lambda: family("parts"), "peers": lambda: family("peers"),
    "recipes": lambda: family("recipes"), "ablation-costs": ablation_costs, "slips": slips, "lessons": lessons,
    "teaching": teaching, "four-weeks": lambda: weeks(FOUR_WEEKS), "nine-weeks": lambda: weeks(NINE_WEEKS),
    "results": results, "shapes": shapes, "results-pages": results_pages, "rooms": rooms,
}  # fmt: skip


def documents() -> list[Path]:
    return [ROOT / "README.md", ROOT / "notebooks" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def current(text: str) -> str:
    """Return a document's text with every generated part made again."""
    return MARKED.sub(lambda part: f"{part[1]}{BLOCKS[part[2]]()}\n{part[3]}", text)


# The figure of the front page


def picture_data() -> dict:
    joints = load(DEFAULT)["per_joint"]["PCK@0.2"]
    at = rows_of("runtimes-256x192_*")
    labels = ("LGM-Pose", "small-hrnet", "lite-hrnet-18", "mobilenetv2", "shufflenetv2", "hrnet-w32")
    rows = {name: [at[name, backend, 1] for backend in ("eager", "onnxruntime")] for name in labels}
    times = {name: [[row["median_ms"], bool(row.get("noise"))] for row in both] for name, both in rows.items()}
    return {"joints": joints, "times": times}


def digest(data: dict) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def draw_picture() -> None:
    """Draw the accuracy of the default weights joint by joint, and the time that networks take here."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from lgmpose.pose.skeletons import COCO

    data = picture_data()
    place_xy = {
        "nose": (0, 9.1), "eye": (0.75, 9.9), "ear": (1.6, 9.3),
        "shoulder": (1.2, 7.8), "elbow": (1.9, 6.1), "wrist": (2.4, 4.4),
        "hip": (0.8, 4.7), "knee": (1.0, 2.5), "ankle": (1.1, 0.3),
    }  # fmt: skip

    def where(name: str) -> tuple[float, float]:
        side, _, joint = name.partition("_")
        x, y = place_xy.get(joint if side in ("left", "right") else name)
        return (-x if side == "right" else x), y  # the person faces us

    figure, (body, bars) = plt.subplots(1, 2, figsize=(7.5, 3.9), width_ratios=(1, 1.5), layout="constrained")
    for a, b in COCO.edges:
        (x1, y1), (x2, y2) = where(COCO.joint_names[a]), where(COCO.joint_names[b])
        body.plot([x1, x2], [y1, y2], color="0.75", linewidth=4, zorder=1)
    for name, percent in data["joints"].items():
        body.scatter(*where(name), s=330, c=[percent], cmap="RdYlGn", vmin=40, vmax=95, edgecolors="white", zorder=2)
        body.text(*where(name), f"{percent:.0f}", ha="center", va="center", fontsize=9, zorder=3)
    body.set(title="PCK@0.2 of the default\nweights, joint by joint, %", xlim=(-3.3, 3.3), ylim=(-0.6, 10.4))
    body.set_aspect("equal")
    body.axis("off")
    for shift, backend, colour in ((-0.2, "PyTorch", "#9ecae1"), (0.2, "ONNX Runtime", "#2171b5")):
        times, imprecise = zip(*(row[backend != "PyTorch"] for row in data["times"].values()), strict=True)
        drawn = bars.barh([i + shift for i in range(len(times))], times, 0.38, color=colour, label=backend)
        labels = [f"{'~' * rough}{ms:.0f}" for ms, rough in zip(times, imprecise, strict=True)]
        bars.bar_label(drawn, labels, padding=3, fontsize=9)
    bars.set(title="Time of one 256×192 crop\non one core of a server CPU (~: imprecise)")
    bars.set(xlabel="milliseconds (logarithmic scale)")
    bars.set(yticks=range(len(data["times"])), yticklabels=data["times"], xscale="log", xlim=(8, 700))
    bars.xaxis.set_major_formatter("{x:g}")
    bars.invert_yaxis()
    bars.legend(loc="upper right", frameon=False)
    bars.spines[["top", "right"]].set_visible(False)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=147, metadata={"Description": digest(data)})


if __name__ == "__main__":
    for path in documents():
        old = path.read_text(encoding="utf-8")
        if (new := current(old)) != old:
            path.write_text(new, encoding="utf-8")
            print(f"{path.relative_to(ROOT)}: rewritten")
    draw_picture()

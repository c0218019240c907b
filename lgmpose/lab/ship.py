"""Turns a finished run into weights that ship with the package: fp16 and 8-bit ONNX, figures, curve, model card.

``lgmpose lab ship lspet:PATH runs/NAME``; with several runs, each having started from the one before, the last is
shipped and the log is that of all. Every figure in the card comes from evaluating the very file that is shipped; fp16
is used only where it leaves the figures as they are.
"""

from __future__ import annotations

import csv
import json
import platform
import tempfile
import textwrap
from pathlib import Path

from lgmpose.errors import UserError
from lgmpose.files import write_atomically
from lgmpose.inference.backends import require
from lgmpose.inference.evaluate import Evaluation, evaluate_weights
from lgmpose.inference.export import export
from lgmpose.machine import commit
from lgmpose.metrics import ERROR_KINDS, pck_joints, pckh_joints
from lgmpose.network.config import VARIANTS
from lgmpose.network.model import LGMPose
from lgmpose.pose.skeletons import Skeleton
from lgmpose.training.curve import save_curve
from lgmpose.zoo.catalogue import (
    SHIPPED,
    WEIGHTS_FOLDER,
    codec_of,
    load_weights,
    save_weights,
    skeleton_of,
    weights_hash,
)

__all__ = ["ship"]

TOLERANCE = 0.1  # points of PCK or AP that fp16 may cost
FIRST = 60  # persons, at most, whose figures are kept apart, for a test that has no time for all
SEEN = 500  # training persons that the network is tried on, too: what it does better there, it knows by heart

CARD = """# {name}

{params:,} parameters, input {height}×{width}, {keypoints} joints ({skeleton}). Trained from scratch; weights stored as
{dtype}, sha256 {digest}….

```bash
# these weights; the same with convolutions in 8 bits, by ONNX Runtime; the figures below
lgmpose predict photo.jpg{option}
lgmpose predict photo.jpg --weights {name}.onnx
{command}
```

## Figures

{conditions}

{figures}

{joints}

{yardsticks}

{name}.onnx ({onnx_mb:.1f} MB): {onnx_figures}.

## What goes wrong

Per cent of the joints by PCK@0.2, on the validation persons and on {seen_count} of the training persons, not augmented
(`{seen_command}`). A wrong joint counts in the first row that fits.

{errors}

![learning curve]({name}.png)

## Data and its terms

{source} {persons} The pictures are not part of this project.

## Recipe

{phases}

{hours} h of training up to the weights that ship; dotted lines of the curve part the parts, and losses at different
sizes do not compare. Figures taken at commit `{commit}` on {machine}. The settings of the last part:

```json
{config}
```

## Limits

{limits} The score of a joint is a heatmap's height, not a probability. Do not use the network to judge, identify or
monitor people.
"""
# By figure: what it measures by, and over which joints.
YARDSTICKS = {
    "PCK@0.2": """PCK@0.2 is the share of labelled joints that lie within a fifth of the torso's size (mean of the two
hip-to-opposite-shoulder distances) of the truth; it pools {limbs} limb joints.""",
    "PCKh@0.5": "PCKh@0.5 allows half of the head's size ({head}) and pools {heads} joints.",
    "AP": """AP and AR are COCO's, by object keypoint similarity: a joint's distance in shares of the person's size and
of what annotators disagree by.""",
}
SELECTION = """Intervals are 95 %, bootstrapped over persons. The weights are those of the epoch that did best on these
persons, which flatters the figures a little."""
# By kind of data: where the pictures come from, and what a network trained on them has not seen.
ABOUT_DATA = {
    "lspet": (
        """Leeds Sports Pose Extended (Sam Johnson and Mark Everingham, "Learning effective human pose estimation from
inaccurate annotation", CVPR 2011): pictures from Flickr, found by the tags parkour, gymnastics and athletics, released
for research; labelled by paid annotators, not without mistakes. It has no official split: training and validation
persons are the package's own fixed choice, so that the figures compare with nobody else's. Cite the paper if you use
these weights, and ask before you use them commercially.""",
        """Trained on sports people alone, one person per picture, at low resolution and with boxes around the true
joints. It was never shown crowds, babies, costumes, drawings or night.""",
    ),
    "coco": (
        """COCO (Lin et al., "Microsoft COCO: common objects in context", ECCV 2014): annotations under CC BY 4.0, each
picture under its own Flickr licence.""",
        "Trained on everyday pictures; it was never shown drawings, X-rays or what else COCO does not have.",
    ),
    "mpii": (
        """MPII Human Pose (Andriluka et al., CVPR 2014): annotations under the licence that comes with them, the
pictures remain their owners'.""",
        "Trained on one annotated person per crop out of videos of everyday activities.",
    ),
    "synthetic": ("Drawn people, by a seed.", "Trained on drawn people: of real ones it knows nothing."),
}


def ship(
    data: str,
    runs: tuple[Path, ...],
    *,
    name: str = SHIPPED[0],
    folder: Path = WEIGHTS_FOLDER,
) -> None:
    """Writes NAME.safetensors, .onnx, .json (figures), .png (curve) and .md (model card) into the package.

    Args:
        data: the data to take the figures from, KIND:PATH.
        runs: the run's folder; or several, each having started from the weights of the one before.
        name: model name that the weights are for.
        folder: where to write. The weights that are there may be those that the first run started from.

    Raises:
        UserError: no such run, runs that do not follow each other, or data that cannot be read.
    """
    if not runs:
        raise UserError("nothing to ship: name a run's folder")
    for module in ("onnx", "onnxscript", "onnxruntime"):
        require(module, "onnx", "an 8-bit ONNX file, which ships with the weights,")
    best, commit_now = runs[-1] / "best.safetensors", commit() or "unknown"
    net, card = load_weights(best)
    skeleton, codec = skeleton_of(card), codec_of(card, net.config.image_hw)
    named = VARIANTS.get(name)
    if named and isinstance(net, LGMPose):
        named = named.with_(activation=net.config.activation)  # weights bring theirs, see zoo.create_model
    if net.config != named:
        raise UserError(f"{best}: not a {name}: its settings are {net.config}")
    log, parts = _whole_log(runs, folder / f"{name}.json"), [_part(part) for part in _phases(card["training"])]
    full = evaluate_weights(data, best)
    training = card["training"]
    for part in _phases(training):
        kind, _, path = part["config"]["data"].partition(":")
        part["config"]["data"] = f"{kind}:{Path(path).name}"  # where it lay on this machine helps nobody
        part["config"]["init_weights"] = Path(part["config"]["init_weights"] or "").name or None
    target, exported, dtype = folder / f"{name}.safetensors", folder / f"{name}.onnx", "fp16"
    with tempfile.TemporaryDirectory() as temporary:
        candidate = Path(temporary) / target.name
        save_weights(candidate, net, skeleton, codec, training=training, half=True)
        shipped = evaluate_weights(data, candidate)
        lost = {k: abs(shipped.figures[k] - value) for k, value in full.figures.items()}
        if any(value * (1 if k.startswith("PCK") else 100) > TOLERANCE for k, value in lost.items()):  # AP is in 0..1
            shipped, dtype = full, "fp32"
    save_weights(target, net, skeleton, codec, evaluation=shipped, training=training, half=dtype == "fp16")
    export(exported, weights=target, format="int8", data=data)
    seen = evaluate_weights(data, target, split="train", limit=SEEN)
    own_kind, _, own_path = data.partition(":")
    command = f"lgmpose eval --data {own_kind}" + (f":PATH/{Path(own_path).name}" if own_path else "")

    def first_persons(path: Path) -> dict:
        evaluation = evaluate_weights(data, path, limit=FIRST)
        return {"count": int(evaluation.conditions["persons"]), **evaluation.as_json()["figures"]}

    onnx = _figures_of(exported, f"{command} --weights {exported.name}", evaluate_weights(data, exported))
    result = {
        "command": f"{command} --weights {target.name}",
        "weights": target.name,
        "sha256": weights_hash(target),
        "fp32": full.as_json()["figures"],
        "first_persons": first_persons(target),
        "onnx": {**onnx, "first_persons": first_persons(exported)},
        "training_persons": {
            **_figures_of(target, f"{command} --split train --limit {SEEN}", seen),
            "errors": seen.as_json()["errors"],
        },
        **shipped.as_json(),
        "training": training,
        "parts": parts,
        "log": log,
        "commit": commit_now,
        "machine": _machine(),
    }
    write_atomically(folder / f"{name}.json", json.dumps(result, indent=1).encode())
    save_curve(log, folder / f"{name}.png")
    text = CARD.format(
        name=name, params=sum(p.numel() for p in net.parameters()), height=net.config.image_hw[0],
        width=net.config.image_hw[1], keypoints=net.config.num_keypoints, skeleton=skeleton.name, dtype=dtype,
        digest=result["sha256"], command=command,
        conditions=", ".join(f"{k}: {v}" for k, v in shipped.conditions.items()),
        option="" if name == SHIPPED[0] else f" --weights {name}.safetensors",
        yardsticks=_yardsticks(shipped, skeleton),
        figures=_figure_table(shipped), joints=_joint_table(shipped),
        onnx_mb=exported.stat().st_size / 1e6, onnx_figures=_figure_list(result["onnx"]),
        seen_count=seen.conditions["persons"],
        seen_command=result["training_persons"]["command"], errors=_error_table(shipped, seen),
        source=ABOUT_DATA[kind][0], limits=ABOUT_DATA[kind][1],
        persons=f"Trained on {training['persons']}.", phases=_part_table(parts),
        hours=round(sum(part["hours"] for part in parts), 2), commit=result["commit"], machine=result["machine"],
        config=json.dumps(training["config"], indent=1),
    )  # fmt: skip
    write_atomically(folder / f"{name}.md", text.encode())
    print(f"wrote {target} and its .onnx, .json, .png and .md")
    print("now, by hand: what limits it and its worst pictures, into the card; and make notebooks, which show weights")


def _yardsticks(evaluation: Evaluation, skeleton: Skeleton) -> str:
    """How the figures of this evaluation are to be read."""
    lines = [text for name, text in YARDSTICKS.items() if name in evaluation.figures]
    text = " ".join(" ".join([*lines, SELECTION]).split()).format(
        limbs=len(pck_joints(skeleton)), heads=len(pckh_joints(skeleton)), head=evaluation.conditions.get("head size")
    )
    return textwrap.fill(text, 118, break_on_hyphens=False)


def _figures_of(file: Path, command: str, evaluation: Evaluation) -> dict:
    figures = evaluation.as_json()["figures"]
    return {"command": command, "sha256": weights_hash(file), "persons": evaluation.conditions["persons"], **figures}


def _figure_list(figures: dict) -> str:
    """What of ``_figures_of`` is a figure, in words."""
    return ", ".join(
        f"{name} {value:.2f} %" if name.startswith("PCK") else f"{name} {value:.4f}"
        for name, value in figures.items() if isinstance(value, float)
    )  # fmt: skip


def _log_rows(log_csv: Path) -> list[dict[str, int | float]]:
    """A run's log, one dict per epoch with numbers as numbers; what an epoch did not measure is left out."""
    if not log_csv.is_file():
        raise UserError(f"{log_csv}: not there; a run's folder has it beside best.safetensors")
    with log_csv.open(newline="") as file:
        return [
            {name: int(value) if value.isdigit() else float(value) for name, value in row.items() if value}
            for row in csv.DictReader(file)
        ]


def _whole_log(runs: tuple[Path, ...], shipped: Path) -> list[dict]:
    """The rows of all runs, each counted on from the weights it started from, which is where the rows before end.

    Args:
        shipped: the result file of the weights that the first run may have started from.
    """
    rows, before = [], None  # before: the hash of the weights that the next run must have started from
    if shipped.is_file():
        known = json.loads(shipped.read_text(encoding="utf-8"))
        rows, before = [{"phase": 1, **row} for row in known["log"]], known["sha256"]
    for number, run in enumerate(runs):
        training = load_weights(run / "best.safetensors")[1]["training"]
        start = training.get("start")
        if start is None and number == 0:
            rows = []  # from scratch
        elif start is None or start["sha256"] != before:
            wanted = runs[number - 1] if number else shipped
            raise UserError(f"{run}: it did not start from the best weights of {wanted}, so their logs are not one")
        else:
            rows = _until_the_best(rows, start["training"])
        last = rows[-1] if rows else {"phase": 0}
        counted = ("epoch", "step", "seconds")
        rows = rows + [
            {"phase": last["phase"] + 1, **row, **{name: row[name] + last.get(name, 0) for name in counted}}
            for row in _log_rows(run / "log.csv")
        ]
        before = weights_hash(run / "best.safetensors")
    return rows


def _until_the_best(rows: list[dict], training: dict) -> list[dict]:
    """Without the epochs of the last part that came after those weights."""
    last = [row for row in rows if row["phase"] == rows[-1]["phase"]]
    return rows[: len(rows) - len(last) + training["epoch"]]


def _phases(training: dict) -> list[dict]:
    """How the weights were trained, from the first part on."""
    start = training.get("start")
    return [*(_phases(start["training"]) if start else ()), training]


def _part(training: dict) -> dict:
    """What a reader wants to know of one part."""
    config = training["config"]
    return {
        "image_hw": list(config["image_hw"] or VARIANTS[config["model"]].image_hw),
        "epochs": training["epoch"], "planned": config["epochs"], "steps": training["step"],
        "batch_size": config["batch_size"], "hours": training["hours"], "learning_rate": config["learning_rate"],
        "schedule": config["schedule"], "activation": config["activation"],
        "rotation": [config["augmentation"][name] for name in ("rotation_deg", "rotation_prob")],
    }  # fmt: skip


def _part_table(parts: list[dict]) -> str:
    titles = ("part", "input", "epoch kept", "planned", "steps", "hours until then", "learning rate", "activation",
              "rotation")  # fmt: skip
    lines = [f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|"]
    for number, part in enumerate(parts, 1):
        lines.append(
            f"| {number} | {part['image_hw'][0]}×{part['image_hw'][1]} | {part['epochs']} | {part['planned']} | "
            f"{part['steps']:,} | {part['hours']} | {part['learning_rate']:g}, {part['schedule']} | "
            f"{part['activation']} | σ {part['rotation'][0]:g}°, of {100 * part['rotation'][1]:g} % |"
        )
    return "\n".join(lines)


def _figure_table(evaluation: Evaluation) -> str:
    lines = ["| figure | value | 95 % interval |", "| --- | --- | --- |"]
    for name, value in evaluation.figures.items():
        if name in evaluation.intervals:  # PCK and PCKh, in per cent
            low, high = evaluation.intervals[name]
            lines.append(f"| {name} | {value:.2f} % | {low:.2f} … {high:.2f} |")
        else:
            lines.append(f"| {name} | {value:.4f} | |")
    return "\n".join(lines)


def _joint_table(evaluation: Evaluation) -> str:
    metrics = list(evaluation.per_joint)
    if not metrics:
        return "Joint by joint there are no figures: no person's torso or head is labelled to measure by."
    lines = ["| joint | " + " | ".join(metrics) + " |", "| --- |" + " --- |" * len(metrics)]
    for joint in evaluation.per_joint[metrics[0]]:
        lines.append(f"| {joint} | " + " | ".join(f"{evaluation.per_joint[m][joint]:.2f}" for m in metrics) + " |")
    return "\n".join(lines)


def _error_table(validation: Evaluation, seen: Evaluation) -> str:
    metric = "PCK@0.2"
    if metric not in validation.errors or metric not in seen.errors:  # nobody's torso is labelled
        return "PCK@0.2 is not defined for these joints."
    lines = ["| | validation | training |", "| --- | --- | --- |"]
    lines.append(f"| within the threshold | {validation.figures[metric]:.2f} | {seen.figures[metric]:.2f} |")
    for kind, meaning in ERROR_KINDS.items():
        lines.append(f"| {meaning} | {validation.errors[metric][kind]:.2f} | {seen.errors[metric][kind]:.2f} |")
    return "\n".join(lines)


def _machine() -> str:
    import torch

    version = torch.__version__.partition("+")[0]
    return f"{torch.get_num_threads()} CPU threads ({platform.machine()}), PyTorch {version}"

"""Turns a finished run into weights that ship with the package: fp16, with figures, curve and model card.

``python -m lgmpose.ship runs/NAME lspet:PATH``. Every figure in the card comes from evaluating the very file that
is shipped; fp16 is used only where it leaves the figures as they are.
"""

from __future__ import annotations

import csv
import json
import platform
import sys
import tempfile
from pathlib import Path

import tyro

from lgmpose.config import VARIANTS
from lgmpose.errors import UserError
from lgmpose.evaluate import Evaluation, evaluate_weights
from lgmpose.files import write_atomically
from lgmpose.plots import save_curve
from lgmpose.runtime import commit
from lgmpose.zoo import SHIPPED, WEIGHTS_FOLDER, codec_of, load_weights, save_weights, skeleton_of, weights_hash

__all__ = ["ship"]

TOLERANCE = 0.1  # points of PCK or AP that fp16 may cost
FIRST = 60  # persons whose figures are kept apart, for a test that has no time for all

CARD = """# {name}

{params:,} parameters, input {height}×{width}, {keypoints} joints ({skeleton}). Trained from scratch; weights stored as
{dtype}, sha256 {digest}….

```bash
lgmpose predict photo.jpg                                      # uses these weights
lgmpose eval --data lspet:PATH/lspet_dataset.zip               # prints the figures below
```

## Figures

{conditions}

{figures}

{joints}

Per cent of labelled joints that lie within the threshold: PCK@0.2 measures by the torso (mean of the two
hip-to-opposite-shoulder distances) and pools the twelve limb joints; PCKh@0.5 measures by the head (neck to head top)
and pools all fourteen. Intervals are 95 %, bootstrapped over persons. The weights are those of the epoch that did best
on these persons, which flatters the figures a little.

![learning curve]({name}.png)

## Data and its terms

{source} {persons} The pictures are not part of this project.

## Recipe

{phases}

{hours} h of training in all. Figures taken at commit `{commit}` on {machine}. The settings of the last part:

```json
{config}
```

## Limits

{limits} The score of a joint is a heatmap's height, not a probability. Do not use the network to judge, identify or
monitor people.
"""
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


def ship(run_dir: Path, data: str, *, name: str = SHIPPED[0], folder: Path = WEIGHTS_FOLDER) -> None:
    """Writes NAME.safetensors, .json (figures), .png (curve) and .md (model card) into the package.

    Args:
        run_dir: a run's folder.
        data: the data to take the validation figures from, KIND:PATH.
        name: model name that the weights are for.
        folder: where to write.

    Raises:
        UserError: no such run, or data that cannot be read.
    """
    best, commit_now = run_dir / "best.safetensors", commit() or "unknown"
    net, card = load_weights(best)
    skeleton, codec = skeleton_of(card), codec_of(card, net.config.image_hw)
    if name not in VARIANTS or net.config != VARIANTS[name]:
        raise UserError(f"{best}: not a {name}: its settings are {net.config}")
    log = _whole_log(_log_rows(run_dir / "log.csv"), card["training"].get("start"), folder / f"{name}.json")
    full = evaluate_weights(data, best)
    training = card["training"]
    kind, _, path = training["config"]["data"].partition(":")
    training["config"]["data"] = f"{kind}:{Path(path).name}"  # where it lay on this machine helps nobody
    target, dtype = folder / f"{name}.safetensors", "fp16"
    with tempfile.TemporaryDirectory() as temporary:
        candidate = Path(temporary) / target.name
        save_weights(candidate, net, skeleton, codec, training=training, half=True)
        shipped = evaluate_weights(data, candidate)
        lost = {k: abs(shipped.figures[k] - value) for k, value in full.figures.items()}
        if any(value * (1 if k.startswith("PCK") else 100) > TOLERANCE for k, value in lost.items()):  # AP is in 0..1
            shipped, dtype = full, "fp32"
    save_weights(target, net, skeleton, codec, evaluation=shipped, training=training, half=dtype == "fp16")
    result = {
        "command": f"lgmpose eval --data {data.partition(':')[0]}:PATH --weights {target.name}",
        "weights": target.name,
        "sha256": weights_hash(target),
        "fp32": full.as_json()["figures"],
        "first_persons": {"count": FIRST, **evaluate_weights(data, target, limit=FIRST).as_json()["figures"]},
        **shipped.as_json(),
        "training": training,
        "log": log,
        "commit": commit_now,
        "machine": _machine(),
    }
    write_atomically(folder / f"{name}.json", json.dumps(result, indent=1).encode())
    save_curve(log, folder / f"{name}.png")
    text = CARD.format(
        name=name, params=sum(p.numel() for p in net.parameters()), height=net.config.image_hw[0],
        width=net.config.image_hw[1], keypoints=net.config.num_keypoints, skeleton=skeleton.name, dtype=dtype,
        digest=result["sha256"], conditions=", ".join(f"{k}: {v}" for k, v in shipped.conditions.items()),
        figures=_figure_table(shipped), joints=_joint_table(shipped),
        source=ABOUT_DATA[kind][0], limits=ABOUT_DATA[kind][1],
        persons=f"Trained on {training['persons']}.", phases="\n".join(_phase_lines(training)),
        hours=round(sum(phase["hours"] for phase in _phases(training)), 2), commit=result["commit"],
        machine=result["machine"],
        config=json.dumps(training["config"], indent=1),
    )  # fmt: skip
    write_atomically(folder / f"{name}.md", text.encode())
    print(f"wrote {target} and its .json, .png and .md")


def _log_rows(log_csv: Path) -> list[dict[str, int | float]]:
    """A run's log, one dict per epoch with numbers as numbers; what an epoch did not measure is left out."""
    if not log_csv.is_file():
        raise UserError(f"{log_csv}: not there; a run's folder has it beside best.safetensors")
    with log_csv.open(newline="") as file:
        return [
            {name: int(value) if value.isdigit() else float(value) for name, value in row.items() if value}
            for row in csv.DictReader(file)
        ]


def _whole_log(rows: list[dict], start: dict | None, before: Path) -> list[dict]:
    """The rows after those of the weights it started from, counted on; ``before`` is those weights' result file."""
    known = json.loads(before.read_text(encoding="utf-8")) if start and before.is_file() else {}
    if start and known.get("sha256") != start["sha256"]:
        raise UserError(f"{before}: not the result file of {start['weights']}, which the run started from")
    earlier = [{"phase": 1, **row} for row in known.get("log", ())]
    last = earlier[-1] if earlier else {"phase": 0}
    counted = ("epoch", "step", "seconds")
    return earlier + [
        {"phase": last["phase"] + 1, **row, **{name: row[name] + last.get(name, 0) for name in counted}} for row in rows
    ]


def _phases(training: dict) -> list[dict]:
    """How the weights were trained, from the first part on."""
    start = training.get("start")
    return [*(_phases(start["training"]) if start else ()), training]


def _phase_lines(training: dict) -> list[str]:
    lines = ["| part | input | epochs | of | steps | hours | learning rate |", "| --- " * 7 + "|"]
    for number, phase in enumerate(_phases(training), 1):
        config = phase["config"]
        height, width = config["image_hw"] or VARIANTS[config["model"]].image_hw
        lines.append(
            f"| {number} | {height}×{width} | {phase['epoch']} | {config['epochs']} | {phase['step']:,} | "
            f"{phase['hours']} | {config['learning_rate']:g}, {config['schedule']} |"
        )
    return lines


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
    lines = ["| joint | " + " | ".join(metrics) + " |", "| --- |" + " --- |" * len(metrics)]
    for joint in evaluation.per_joint[metrics[0]]:
        lines.append(f"| {joint} | " + " | ".join(f"{evaluation.per_joint[m][joint]:.2f}" for m in metrics) + " |")
    return "\n".join(lines)


def _machine() -> str:
    import torch

    version = torch.__version__.partition("+")[0]
    return f"{torch.get_num_threads()} CPU threads ({platform.machine()}), PyTorch {version}"


if __name__ == "__main__":
    try:
        tyro.cli(ship, config=(tyro.conf.PositionalRequiredArgs,))
    except UserError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)

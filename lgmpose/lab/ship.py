"""Turn finished runs into weights that ship with the package: ``lgmpose lab ship lspet:PATH runs/NAME``.

It writes the weights in 16 bits, an 8-bit ONNX file, the result file (.json), the learning curve (.png) and the model
card (.md). Several runs are parts of one training: each started from the weights of the one before, and the last one
ships. All figures come from evaluating the files that ship.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lgmpose.errors import UserError, require
from lgmpose.files import check_writable, read_json, write_atomically
from lgmpose.inference.evaluate_weights import evaluate_weights
from lgmpose.inference.export import export
from lgmpose.inference.figures import Evaluation
from lgmpose.inference.options import EvalConfig, ExportConfig
from lgmpose.lab.model_card import BY_HAND, card_text
from lgmpose.machine import commit
from lgmpose.network.config import VARIANTS, LGMPoseConfig
from lgmpose.training.curve import save_curve
from lgmpose.training.recipe import without_folders
from lgmpose.training.run_folder import read_log
from lgmpose.zoo.cards import SHIPPED, WEIGHTS_FOLDER, codec_of, skeleton_of, weights_hash
from lgmpose.zoo.catalogue import load_weights, save_weights

__all__ = ["ship"]

FIRST = 60  # persons whose figures are stored separately, for a quick test
SEEN = 500  # training persons that are evaluated, to compare with the validation persons


def ship(data: str, runs: tuple[Path, ...], *, name: str, folder: Path) -> None:
    """Write NAME.safetensors, .onnx, .json (figures), .png (curve) and .md (model card); see the command's options.

    The first run may have started from the weights that are in the folder, or from other weights that ship. The files
    in the folder are replaced at the end, together: after an error, all of them are the earlier weights'.

    Raises:
        UserError: no such run, runs that do not follow each other, weights of another network, or unreadable data.
    """
    if not runs:
        raise UserError("nothing to ship: name a run's folder")
    for module in ("onnx", "onnxscript", "onnxruntime"):
        require(module, "onnx", "an 8-bit ONNX file, which ships with the weights,")
    require("matplotlib", "plot", "the learning curve, which ships with the weights,")
    others = {weights_hash(WEIGHTS_FOLDER / f"{other}.safetensors") for other in SHIPPED if other != name}
    best, log = runs[-1] / "best.safetensors", _whole_log(runs, folder / f"{name}.json", others)
    net, card = load_weights(best)
    named, config = VARIANTS.get(name), net.config
    if named and isinstance(config, LGMPoseConfig):
        named = named.with_(activation=config.activation)  # weights bring their own, see zoo.create_model
    if config != named or named is None:
        raise UserError(f"{best}: not a {name}: its settings are {config}")
    for part in _parts(card["training"]):
        part["config"] = without_folders(part["config"])
    check_writable(folder / f"{name}.safetensors")
    with tempfile.TemporaryDirectory(prefix=".ship-", dir=folder) as draft:
        _write_files(data, net, card, log, name, Path(draft))
        for file in Path(draft).iterdir():
            os.replace(file, folder / file.name)
    print(f"wrote {folder / name}.safetensors and its .onnx, .json, .png and .md")
    print("Next: write by hand what limits these weights into the card, and run the notebooks that show them again.")


def _write_files(
    data: str, net: nn.Module, card: dict[str, Any], log: list[dict], name: str, folder: Path
) -> None:
    """Write the five files; see ``ship``."""
    image_hw, training = net.config.image_hw, card["training"]
    codec, target, exported = codec_of(card, image_hw), folder / f"{name}.safetensors", folder / f"{name}.onnx"
    save_weights(target, net, skeleton_of(card), codec, training=training, half=True)
    evaluation = evaluate_weights(EvalConfig(data, target))
    save_weights(target, net, skeleton_of(card), codec, evaluation=evaluation, training=training, half=True)
    export(ExportConfig(exported, weights=target, format="int8", data=data))
    network = {
        "params": sum(p.numel() for p in net.parameters()), "image_hw": list(image_hw),
        "num_keypoints": net.config.num_keypoints, "onnx_bytes": exported.stat().st_size,
    }  # fmt: skip
    result = {**_measured(data, target, exported, evaluation), "network": network, "training": training,
              "parts": [_described(part) for part in _parts(training)], "log": log}  # fmt: skip
    write_atomically(folder / f"{name}.json", json.dumps(result, indent=1).encode())
    save_curve(log, folder / f"{name}.png")
    write_atomically(folder / f"{name}.md", (card_text(result) + "\n" + BY_HAND).encode())


def _measured(data: str, target: Path, exported: Path, evaluation: Evaluation) -> dict:
    """Return what the result file says of the files that ship: figures with their commands and conditions."""
    kind, _, path = data.partition(":")
    command = f"lgmpose eval --data {kind}" + (f":PATH/{Path(path).name}" if path else "")
    seen = evaluate_weights(EvalConfig(data, target, split="train", limit=SEEN))

    def first_persons(file: Path) -> dict:
        first = evaluate_weights(EvalConfig(data, file, limit=FIRST))
        return {"count": int(first.conditions["persons"]), **first.as_json()["figures"]}

    def figures_of(file: Path, options: str, found: Evaluation) -> dict:
        persons, figures = found.conditions["persons"], found.as_json()["figures"]
        return {"command": f"{command} {options}", "sha256": weights_hash(file), "persons": persons, **figures}

    return {
        "command": f"{command} --weights {target.name}",
        "weights": target.name,
        "sha256": weights_hash(target),
        "first_persons": first_persons(target),
        "onnx": {
            **figures_of(exported, f"--weights {exported.name}", evaluate_weights(EvalConfig(data, exported))),
            "first_persons": first_persons(exported),
        },
        "training_persons": {
            **figures_of(target, f"--weights {target.name} --split train --limit {SEEN}", seen),
            "errors": seen.as_json()["errors"],
        },
        **evaluation.as_json(),
        "commit": commit() or "unknown",
        "machine": f"{torch.get_num_threads()} CPU threads ({platform.machine()}), PyTorch "
        + torch.__version__.partition("+")[0],
    }  # fmt: skip


def _whole_log(runs: tuple[Path, ...], shipped: Path, others: set[str]) -> list[dict]:
    """Return the rows of all runs. Epochs, steps and seconds count on from the weights that a run started from.

    Args:
        runs: the folders.
        shipped: the result file of the weights that the first run may have started from.
        others: hashes of weights of another name that it may have started from. Their log stays with them.
    """
    rows, before = [], None  # before: the hash of the weights that the next run must have started from
    parts = 0  # of the training of such other weights
    if shipped.is_file():
        known = read_json(shipped)
        rows, before = [{"phase": 1, **row} for row in known["log"]], known["sha256"]
    for number, run in enumerate(runs):
        own, start = read_log(run / "log.csv"), load_weights(run / "best.safetensors")[1]["training"].get("start")
        if number == 0 and (start is None or start["sha256"] in others):
            rows, parts = [], len(_parts(start["training"])) if start else 0
        elif start is None or start["sha256"] != before:
            wanted = runs[number - 1] if number else shipped
            raise UserError(f"{run}: did not start from the best weights of {wanted}, so their logs cannot be joined")
        else:  # without the epochs of the part before that came after its best
            later = sum(row["phase"] == rows[-1]["phase"] for row in rows) - start["training"]["epoch"]
            rows = rows[: len(rows) - later]
        last = rows[-1] if rows else {"phase": parts}
        for row in own:
            counted = {key: row[key] + last.get(key, 0) for key in ("epoch", "step", "seconds")}
            rows.append({"phase": last["phase"] + 1, **row, **counted})
        before = weights_hash(run / "best.safetensors")
    return rows


def _parts(training: dict) -> list[dict]:
    """Return how the weights were trained, from the first part on."""
    start = training.get("start")
    return [*(_parts(start["training"]) if start else ()), training]


def _described(part: dict) -> dict:
    """Return what the model card says of one part."""
    config = part["config"]
    return {
        "image_hw": list(config["image_hw"] or VARIANTS[config["model"]].image_hw), "epochs": part["epoch"],
        "planned": None if config.get("minutes") else config["epochs"], "steps": part["step"], "hours": part["hours"],
        **{key: config[key] for key in ("batch_size", "learning_rate", "schedule", "activation")},
    }  # fmt: skip

"""The command line, ``lgmpose COMMAND``. tyro turns each function's signature and docstring into options and help.

The rooms ``lab`` and ``course`` register their own commands; without these rooms the other commands still work. The
commands import PyTorch when they run, so ``--help`` answers quickly. A UserError is printed as one line.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from lgmpose import __version__
from lgmpose.data.prepare.layouts import Coco, Lspet, Mpii, Synthetic
from lgmpose.errors import UserError, exit_status
from lgmpose.files import check_writable, print_anywhere
from lgmpose.inference.options import EvalConfig, ExportConfig
from lgmpose.training.recipe import RECIPES, DetectorConfig, TrainConfig

__all__ = ["main"]

DESCRIPTION = (
    "LGM-Pose, a lightweight pose network: prepare data, train, evaluate, predict and measure. "
    "`lgmpose --version` prints the version."
)

app = tyro.extras.SubcommandApp()


@app.command
def data(
    source: Annotated[Coco, tyro.conf.subcommand("coco")]
    | Annotated[Mpii, tyro.conf.subcommand("mpii")]
    | Annotated[Lspet, tyro.conf.subcommand("lspet")]
    | Annotated[Synthetic, tyro.conf.subcommand("synthetic")],
) -> None:
    """Prepare a data set: find or download it, verify it, convert it. Print what is missing and where to get it."""
    source.prepare()


@app.command
def train(config: TrainConfig, out: Path | None = None, recipe: Literal["few-pictures"] | None = None) -> None:
    """Train a network. A run can be interrupted with Ctrl-C and resumed with `lgmpose resume RUN`.

    Args:
        out: the run's folder; by default runs/MODEL-DATA.
        recipe: a set of options: few-pictures is for 10 to 200 labelled persons. Options that you give replace its own.
    """
    from lgmpose.training.trainer import train as train_network

    train_network(config, out or Path("runs") / f"{config.model}-{config.data.partition(':')[0]}")


@app.command(name="train-detector")
def train_detector(config: DetectorConfig, out: Path = Path("runs/lgm-det")) -> None:
    """Train LGM-Det, a small detector of people. `lgmpose resume RUN` resumes it. The result is RUN/lgm-det.onnx.

    Args:
        out: the run's folder.
    """
    from lgmpose.training.detector_training import train_detector as train_network

    train_network(config, out)


@app.command(name="eval-detector")
def eval_detector(
    data: str, detector: str, split: Literal["train", "val"] = "val", annotations: str | None = None,
    threads: int | None = None, device: str = "auto", json: Path | None = None,
) -> None:  # fmt: skip
    """Measure a detector on COCO data: AP of boxes, and recall at a precision of 0.9.

    Args:
        data: coco:FOLDER.
        detector: lgm-det, yolox-nano, an .onnx file, or torchvision:NAME.
        split: part of the data.
        annotations: annotation file, if it is not in its usual place.
        threads: CPU threads of an .onnx file; None: all cores.
        device: for torchvision: auto, cpu, cuda …
        json: write the figures with their conditions and this machine there.
    """
    from lgmpose.data import load_box_set
    from lgmpose.inference.detector_figures import evaluate_detector, save_figures
    from lgmpose.inference.detectors import open_detector

    if json is not None:
        check_writable(json)
    found = open_detector(detector, threads=threads, device=device)
    box_set = load_box_set(data, split, annotations)
    box_set.print_left_out()
    evaluation = evaluate_detector(found, box_set)
    print(f"detector: {detector}  {evaluation.as_text()}")
    if json is not None:
        save_figures(evaluation, detector, json)


@app.command
def resume(
    run: tyro.conf.Positional[Path],
    bad_images: Literal["refuse", "skip"] | None = None,
    workers: int | Literal["auto"] | None = None,
    device: str | None = None,
    checkpoint_minutes: float | None = None,
) -> None:
    """Resume an interrupted training run with its own settings. Only the options below can change.

    Args:
        run: the run's folder.
        bad_images: refuse: stop at an unreadable picture; skip: leave it out; None: as before.
        workers: loader processes; auto: chosen for this machine; None: as before.
        device: auto, cpu, cuda, mps …; None: as before.
        checkpoint_minutes: minutes between checkpoints; None: as before.
    """
    from lgmpose.training.detector_training import SESSION_TYPES
    from lgmpose.training.trainer import resume as resume_run

    options: dict[str, Any] = {"bad_images": bad_images, "device": device, "checkpoint_minutes": checkpoint_minutes}
    changes = {name: value for name, value in options.items() if value is not None}
    if workers is not None:
        changes["workers"] = None if workers == "auto" else workers
    resume_run(run, SESSION_TYPES, **changes)


@app.command(name="eval")
def evaluate(config: EvalConfig) -> None:
    """Measure weights on a data set: PCK@0.2, PCKh@0.5, AP. The labels decide which can be computed."""
    from lgmpose.inference.evaluate_weights import evaluate_weights

    evaluate_weights(config)


@app.command
def predict(  # the options of the command
    inputs: tyro.conf.Positional[tuple[str, ...]],
    out: Path = Path("poses"),
    box: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    detections: Path | None = None,
    detector: str | None = None,
    weights: Path | None = None,
    flip_test: bool = True,
    score_threshold: float = 0.2,
    format: str = "json",
    detect_every: int = 3,
    smooth: float = 0.0,
    show: bool = False,
    device: str = "auto",
    threads: int | None = None,
) -> None:
    """Draw the skeletons of the people in pictures and videos, and write the joints.

    Args:
        inputs: pictures, videos, folders of them, the number of a camera (0), or addresses (rtsp://..., https://...).
        out: folder for one drawing and one JSON file per input.
        box: x,y,w,h of a person in pixels; repeat it for more people.
        detections: COCO detection file with the boxes.
        detector: finds the people: lgm-det (the default), yolox-nano (downloaded once), an .onnx file with the head of
            YOLOX or RTMDet, torchvision:NAME, or none (each picture shows one person, the default for joints of your
            own).
        weights: a weights file, or a file of `lgmpose export`; by default lgm-pose-coco-256x192.
        flip_test: average with the mirrored picture's heatmaps.
        score_threshold: joints with a lower score are not drawn, but are in the result files. The score is the height
            of the heatmap, about 0 to 1.
        format: json (always written), coco (poses_coco.json), csv (poses.csv); separate several by commas.
        detect_every: in videos, the detector runs on every N-th frame. In the other frames, boxes come from the last
            poses.
        smooth: in videos, strength of the filter that smooths the joints (One Euro). 0: no filter, 1: usual.
        show: show the drawings in a window.
        device: auto, cpu, cuda, mps …
        threads: CPU threads of the network; None: all cores for an exported file, otherwise PyTorch's own setting.
    """
    from lgmpose.inference.formats import check_formats
    from lgmpose.inference.predict_files import PredictOptions, predict_files
    from lgmpose.inference.predictor import Predictor
    from lgmpose.inference.tracking import TrackOptions

    boxes = [_parse_box(text) for text in box] or None
    if not inputs:
        raise UserError("nothing to predict: name at least one picture, folder or video")
    options = PredictOptions(score_threshold, check_formats(format), TrackOptions(detect_every, smooth), show)
    if (boxes or detections) and detector not in (None, "none"):
        raise UserError(f"--detector {detector}: the boxes are already given by --box or --detections; leave one out")
    finder = "none" if boxes or detections else detector or "auto"
    predictor = Predictor(weights, detector=finder, device=device, flip_test=flip_test, threads=threads)
    done = predict_files(predictor, inputs, out, boxes=boxes, detections=detections, options=options)
    print(f"{done} done; drawings and results are in {out}")


@app.command
def compare(  # the options of the command
    inputs: tyro.conf.Positional[tuple[Path, ...]],
    weights: tyro.conf.UseAppendAction[tuple[Path, ...]] = (),
    out: Path = Path("comparison.png"),
    box: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    detections: Path | None = None,
    detector: str = "none",
    flip_test: bool = True,
    score_threshold: float = 0.2,
    device: str = "auto",
) -> None:
    """Draw the poses that several trained networks find in the same pictures, one row per network (paper, Figure 4).

    Args:
        inputs: pictures, or folders of pictures.
        weights: a weights file, or a file of `lgmpose export`; repeat it for each network. By default the weights
            that come with the package.
        out: the drawing (.png, .jpg, .svg or .pdf).
        box: x,y,w,h of a person in pixels; repeat it for more people. Without boxes, each picture shows one person.
        detections: COCO detection file with the boxes.
        detector: finds the people for all networks: lgm-det, yolox-nano, an .onnx file, torchvision:NAME, or none.
        flip_test: average with the mirrored picture's heatmaps.
        score_threshold: joints with a lower score are not drawn. The score is the height of the heatmap, about 0 to 1.
        device: auto, cpu, cuda, mps …
    """
    from lgmpose.inference.side_by_side import compare_networks
    from lgmpose.zoo.cards import DEFAULT_WEIGHTS

    if not inputs:
        raise UserError("nothing to compare: name at least one picture or folder")
    compare_networks(
        inputs, weights or (DEFAULT_WEIGHTS,), out, boxes=[_parse_box(text) for text in box] or None,
        detections=detections, detector=detector, flip_test=flip_test, score_threshold=score_threshold, device=device,
    )  # fmt: skip
    print(f"the comparison is in {out}")


@app.command
def export(config: ExportConfig) -> None:
    """Write a network as a file that runs without PyTorch: ONNX, OpenVINO, ncnn, ExecuTorch or CoreML.

    predict, eval, compare and lgmpose.Predictor take the file as --weights, except for CoreML's.
    """
    from lgmpose.inference.export import export as export_network

    export_network(config)


def _parse_box(text: str) -> tuple[float, float, float, float]:
    try:
        x, y, w, h = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--box {text}: write four numbers x,y,w,h in pixels, without spaces") from None
    return x, y, w, h


def _with_recipe(words: list[str]) -> list[str]:
    """Return the words of `train` with the options of its --recipe, except for those that are given themselves."""
    place = next((i for i, word in enumerate(words) if word.partition("=")[0] == "--recipe"), None)
    if words[:1] != ["train"] or place is None:
        return words
    _, equals, name = words[place].partition("=")
    name = name if equals else "".join(words[place + 1 : place + 2])
    if name not in RECIPES:
        raise UserError(f"--recipe {name}: choose one of {', '.join(RECIPES)}")
    given = {word.partition("=")[0].replace("_", "-") for word in words}
    options = []
    for field, value in RECIPES[name].items():
        option = f"--{field.replace('_', '-')}"
        if option not in given:
            options += [option, str(value)]
    return ["train", *options, *words[1:]]


def _register_rooms() -> None:
    """Add the commands of the rooms `lab` and `course`, where they are installed."""
    for room in ("lab", "course"):
        if importlib.util.find_spec(f"lgmpose.{room}"):
            importlib.import_module(f"lgmpose.{room}.commands").register(app)


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after ``lgmpose``; by default those of the process.

    Returns:
        The exit status: 0, or what the command returns; 2 for bad input (one line on stderr); 130 if interrupted.
    """
    print_anywhere()
    return exit_status(lambda: _run(sys.argv[1:] if arguments is None else arguments))


def _run(words: list[str]) -> int | None:
    """Run one command, and return what it returns."""
    if words[:1] == ["train"] and any(word.partition("=")[0] == "--resume" for word in words):
        raise UserError("train has no --resume; to resume a run, type: lgmpose resume RUN")
    if words in (["--version"], ["-V"]):
        print(f"lgmpose {__version__}")
        return 0
    words = _with_recipe(list(words))
    return app.cli(prog="lgmpose", args=words, config=(tyro.conf.OmitArgPrefixes,), description=DESCRIPTION)


_register_rooms()

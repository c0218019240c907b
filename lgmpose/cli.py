"""The command line: ``lgmpose data|train|eval|predict|compare|export|profile|bench|ablate``.

Each command is one function; tyro turns its signature and docstring into options and help. Torch is imported inside the
commands, so that help comes at once. What a user did wrong arrives as a UserError and is printed as one line.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lgmpose.data.prepare.sources import Coco, Lspet, Mpii, Synthetic
from lgmpose.errors import UserError, as_sentence
from lgmpose.files import print_anywhere
from lgmpose.lab.ablate.recipe_rows import AblateConfig
from lgmpose.training.recipe import RESUME_FIELDS, TrainConfig

__all__ = ["main"]

DESCRIPTION = "LGM-Pose, a lightweight pose network: get data, train, measure, use and profile it."

app = tyro.extras.SubcommandApp()


@app.command
def data(
    source: Annotated[Coco, tyro.conf.subcommand("coco")]
    | Annotated[Mpii, tyro.conf.subcommand("mpii")]
    | Annotated[Lspet, tyro.conf.subcommand("lspet")]
    | Annotated[Synthetic, tyro.conf.subcommand("synthetic")],
) -> None:
    """Get a data set ready: find or fetch, verify, convert. Says exactly what is missing and where to get it."""
    source.prepare()


@app.command
def train(
    config: TrainConfig,
    out: Path | None = None,
    resume: Path | None = None,
) -> None:
    """Train a network. Stop with Ctrl-C at any time and go on with --resume.

    Args:
        out: the run's folder; by default runs/MODEL-DATA.
        resume: folder of a run to go on with; it keeps its own settings: workers, device, checkpoint-minutes and
            bad-images change where they are given, all other options are ignored.
    """
    from lgmpose.training.checkpoint import stored_config
    from lgmpose.training.loop import train as train_network

    if resume is not None:
        checkpoint = resume / "last.safetensors"
        if not checkpoint.is_file():
            raise UserError(f"{resume}: no last.safetensors in it, so there is no run to resume")
        stored = stored_config(checkpoint)
        # Where these were not given, they are the run's own: see _with_own_settings.
        config = replace(stored, **{name: getattr(config, name) for name in RESUME_FIELDS})
        train_network(config, resume, resume=True)
    else:
        train_network(config, out or Path("runs") / f"{config.model}-{config.data.partition(':')[0]}")


@app.command(name="eval")
def evaluate(
    data: str,
    weights: Path | None = None,
    split: Literal["train", "val"] = "val",
    annotations: str | None = None,
    detections: str | None = None,
    codec: Literal["standard", "dark", "udp"] | None = None,
    image_hw: tuple[int, int] | None = None,
    flip_test: bool = True,
    limit: int | None = None,
    bad_images: Literal["refuse", "skip"] = "refuse",
    batch_size: int = 32,
    workers: int | None = None,
    device: str = "auto",
    threads: int | None = None,
    results: Path | None = None,
    json: Path | None = None,
    sheet: Path | None = None,
) -> None:
    """Measure weights on a data set: PCK@0.2, PCKh@0.5, AP, whatever its labels allow, with the conditions.

    Args:
        data: KIND:PATH with KIND coco, mpii, lspet or synthetic.
        weights: a weights file, or one of `lgmpose export`; by default the weights that come with the package.
        split: which part of the data.
        annotations: annotation file, where it is not in its usual place.
        detections: COCO detection file to take boxes from, instead of the ground truth's.
        codec: decoder; by default the one the weights were trained with.
        image_hw: input height and width, if not the weights' own.
        flip_test: average with the mirrored picture's heatmaps.
        limit: at most so many persons, those of the first pictures; pictures stay whole, and AP is that of these.
        bad_images: what to do about unreadable pictures.
        batch_size: persons at a time.
        workers: loader processes; None: chosen for this machine.
        device: auto, cpu, cuda, mps …
        threads: how many the network may take; None: all cores for an exported one, PyTorch's own number otherwise.
        results: where to write the poses in COCO's results format (as the test-dev server takes it).
        json: where to write the figures.
        sheet: where to draw the persons with the worst and the best predictions (a PNG).
    """
    from lgmpose.inference.evaluate import evaluate_weights

    evaluate_weights(
        data, weights, split=split, annotations=annotations, detections=detections, codec_name=codec,
        image_hw=image_hw, flip_test=flip_test, limit=limit, bad_images=bad_images, batch_size=batch_size,
        workers=workers, device=device, threads=threads, results_file=results, json_file=json, sheet_file=sheet,
    )  # fmt: skip


@app.command
def predict(
    inputs: tyro.conf.Positional[tuple[Path, ...]],
    out: Path = Path("poses"),
    box: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    detections: Path | None = None,
    weights: Path | None = None,
    flip_test: bool = True,
    score_threshold: float = 0.2,
    device: str = "auto",
    threads: int | None = None,
) -> None:
    """Draw the skeletons of the people in pictures, folders of pictures or videos, and write them as JSON.

    Args:
        inputs: pictures, folders or videos.
        out: folder for one annotated picture and one JSON per input.
        box: x,y,w,h of a person in pixels; repeat it for more people. Without boxes the whole picture is one person's.
        detections: COCO detection file with the boxes.
        weights: a weights file, or one of `lgmpose export`; by default the weights that come with the package.
        flip_test: average with the mirrored picture's heatmaps.
        score_threshold: joints below it are not drawn.
        device: auto, cpu, cuda, mps …
        threads: how many the network may take; None: all cores for an exported one, PyTorch's own number otherwise.
    """
    from lgmpose.inference.predict_files import predict_files

    boxes = [_parse_box(text) for text in box] or None
    if not inputs:
        raise UserError("nothing to predict: name at least one picture, folder or video")
    done = predict_files(
        inputs, out, boxes=boxes, detections=detections, weights=weights, flip_test=flip_test, device=device,
        threads=threads, score_threshold=score_threshold,
    )  # fmt: skip
    print(f"{done} done; drawings and JSON files are in {out}")


@app.command
def compare(
    inputs: tyro.conf.Positional[tuple[Path, ...]],
    weights: tyro.conf.UseAppendAction[tuple[Path, ...]] = (),
    out: Path = Path("comparison.png"),
    box: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    detections: Path | None = None,
    flip_test: bool = True,
    score_threshold: float = 0.2,
    device: str = "auto",
) -> None:
    """Draw the same pictures through several trained networks, a row for each, as the paper's Figure 4 does.

    Args:
        inputs: pictures, or folders of pictures.
        weights: a weights file, or one of `lgmpose export`; repeat it for each network. By default the weights
            that come with the package.
        out: the figure (.png, .jpg, .svg or .pdf).
        box: x,y,w,h of a person in pixels; repeat it for more people. Without boxes the whole picture is one person's.
        detections: COCO detection file with the boxes.
        flip_test: average with the mirrored picture's heatmaps.
        score_threshold: joints below it are not drawn.
        device: auto, cpu, cuda, mps …
    """
    from lgmpose.inference.side_by_side import compare_networks
    from lgmpose.zoo.cards import DEFAULT_WEIGHTS

    if not inputs:
        raise UserError("nothing to compare: name at least one picture or folder")
    compare_networks(
        inputs, weights or (DEFAULT_WEIGHTS,), out, boxes=[_parse_box(text) for text in box] or None,
        detections=detections, flip_test=flip_test, score_threshold=score_threshold, device=device,
    )  # fmt: skip
    print(f"the comparison is in {out}")


@app.command
def export(
    out: Path,
    weights: Path | None = None,
    model: str | None = None,
    image_hw: tuple[int, int] | None = None,
    num_keypoints: int | None = None,
    format: Literal["onnx", "int8", "openvino", "openvino-bf16", "openvino-int8"] = "onnx",
    data: str | None = None,
    annotations: str | None = None,
    val_annotations: str | None = None,
    verify: bool = False,
    json: Path | None = None,
) -> None:
    """Write a network as one file that runs without PyTorch: ONNX, OpenVINO, or ONNX with its convolutions in 8 bits.

    predict, eval, compare and lgmpose.Predictor take the file as --weights.

    Args:
        out: the file: .onnx, or .xml for OpenVINO (a .bin is written beside it).
        weights: a weights file; by default the ones that come with the package.
        model: a name of `lgmpose profile --list` instead, with fresh random weights, to measure its speed.
        image_hw: input height and width, if not the network's own.
        num_keypoints: K of --model, if not its own.
        format: onnx and openvino compute what PyTorch does; in 8 bits a network is smaller and faster, and slightly
            off; in bfloat16 it is faster on processors that have it, and hardly off.
        data: KIND:PATH as in `lgmpose eval`; int8 is calibrated on its training split, --verify takes its validation
            split.
        annotations: annotation file for int8, where it is not in its usual place.
        val_annotations: the same for --verify.
        verify: compare the file with the network: heatmaps, accuracy (with --data), speed.
        json: where to keep what --verify finds.
    """
    from lgmpose.inference.export import export as export_network

    export_network(
        out, weights=weights, model=model, image_hw=image_hw, num_keypoints=num_keypoints, format=format, data=data,
        annotations=annotations, val_annotations=val_annotations, verify=verify, json_file=json,
    )  # fmt: skip


@app.command
def ablate(config: AblateConfig, tabulate: bool = False) -> None:
    """Train LGM-Pose with one thing changed at a time (Tables 4 and 5, LARM taken apart), and peers, and compare them.

    Stop it with Ctrl-C at any time; the same command goes on. Finished runs are not done again.

    Args:
        tabulate: train nothing; only write table and figure anew from the finished runs in --json.
    """
    from lgmpose.lab.ablate.ablation import ablate as run_ablations

    run_ablations(config, tabulate=tabulate)


@app.command
def profile(
    model: str = "lgm-pose-coco-256x192",
    image_hw: tuple[int, int] | None = None,
    num_keypoints: int | None = None,
    fusion: Literal["none", "conv3x3", "dw1", "dw2", "sfusion"] = "sfusion",
    global_block: Literal["mobilevim", "mobilevit", "mobilevit_relu6"] = "mobilevim",
    fps: bool = True,
    threads: int = 1,
    all: bool = False,
    table: Literal[1, 2, 3, 4, 5] | None = None,
    json: Path | None = None,
    list: bool = False,
) -> None:
    """Print what a network costs, or every network: parameters, MACs by three conventions, memory, beside the paper's.

    Args:
        model: a name of --list.
        image_hw: input height and width, if not the model's own.
        num_keypoints: K, if not the model's own.
        fusion: a row of Table 5.
        global_block: a row of Table 4.
        fps: measure the speed on this machine too (of one network).
        threads: how many threads that may take.
        all: one table of every network, by default at 256 192 for 17 keypoints, beside the paper's figures.
        table: one of the paper's tables, 1 to 5, with our counts in every row.
        json: where to write the same for machines.
        list: print the models' names instead.
    """
    from json import dumps

    from lgmpose.files import check_writable, write_atomically
    from lgmpose.lab import cost_tables
    from lgmpose.lab.profiling import measure_fps, published
    from lgmpose.lab.profiling import profile as profile_network
    from lgmpose.zoo.catalogue import create_model, list_models

    if threads < 1:
        raise UserError(f"threads {threads}: at least 1")
    if list:
        print("\n".join(list_models()))
        return
    if json is not None:
        check_writable(json)
    one = (model, fusion, global_block) != ("lgm-pose-coco-256x192", "sfusion", "mobilevim")  # a certain network
    if table is not None:
        if all or image_hw is not None or num_keypoints is not None or one:
            raise UserError(
                "--table has its own networks, sizes and keypoints: leave out --all, --model, --fusion, "
                "--global-block, --image-hw and --num-keypoints"
            )
        rows = cost_tables.paper_costs(table)
        text = cost_tables.as_text(rows, title=f"Table {table} of the paper, with our counts")
        data = cost_tables.as_json(rows)
    elif all:
        if one:
            raise UserError("--all is every network as it is: leave out --model, --fusion and --global-block")
        hw, K = image_hw or (256, 192), 17 if num_keypoints is None else num_keypoints
        rows = cost_tables.catalogue_costs(hw, K)
        text = cost_tables.as_text(rows, title=f"every network, input {hw[0]} × {hw[1]}, {K} keypoints")
        data = cost_tables.as_json(rows)
    else:
        options = {"image_hw": image_hw, "num_keypoints": num_keypoints}
        options["fusion"] = None if fusion == "sfusion" else fusion
        options["global_block"] = None if global_block == "mobilevim" else global_block
        changes = {name: value for name, value in options.items() if value is not None}
        net = create_model(model, **changes).eval()
        row = published(model, fusion, global_block, net.config.image_hw)
        cost = profile_network(net)
        speed = measure_fps(net, threads=threads) if fps else None
        text, data = cost.as_text(fps=speed, published=row), cost.as_json(fps=speed, published=row)
    if json is not None:
        write_atomically(json, (dumps(data, indent=1, ensure_ascii=False) + "\n").encode())
    print(text)


@app.command
def bench(
    models: tuple[str, ...] = (),
    backends: tuple[str, ...] = ("eager",),
    threads: tuple[int, ...] | None = None,
    image_hw: tyro.conf.UseAppendAction[tuple[tuple[int, int], ...]] = (),
    num_keypoints: int | None = None,
    batch_sizes: tuple[int, ...] = (1,),
    reference: str | None = None,
    tables: tuple[int, ...] | None = None,
    scope: Literal["network", "decode", "pipeline"] = "network",
    codec: Literal["standard", "dark", "udp"] = "dark",
    runs: int = 100,
    seconds: float = 5.0,
    keep_memory: bool = False,
    device: str = "auto",
    json: Path | None = None,
    render: Path | None = None,
) -> None:
    """Measure how long networks take on this machine, side by side; in about a minute where nothing else is asked for.

    Each backend with each number of threads gets a fresh process, in which all networks take turns.

    Args:
        models: names of `lgmpose profile --list`; by default LGM-Pose and the small networks.
        backends: eager, eager-folded, eager-fast, compile, onnxruntime, onnxruntime-int8, openvino, openvino-bf16,
            openvino-int8.
        threads: numbers of threads; by default 1, and 1 2 with --tables.
        image_hw: input height and width; repeat it for more sizes. By default the reference's own.
        num_keypoints: K; by default the reference's own.
        batch_sizes: persons at a time.
        reference: what the others are compared with; by default the first LGM-Pose among the models.
        tables: measure the systems of the paper's Tables 1 and 3 instead; or of one of them, --tables 1.
        scope: the network alone, with decoding, or from the picture to its keypoints.
        codec: how heatmaps are decoded.
        runs: rounds at most; a group of networks ends with these or with --seconds, but not before 10.
        seconds: seconds per network at most, see --runs.
        keep_memory: tell the C library to keep freed memory, as training does and predict does not.
        device: auto, cpu, cuda, mps …
        json: where to keep the result; the table (.md) and the plot (.png) are written beside it.
        render: measure nothing; write table and plot of this result file anew.
    """
    from lgmpose.lab.bench import bench as measure
    from lgmpose.lab.bench import load_results, save_report

    if render is not None:
        result, json = load_results(render), render
    else:
        result = measure(
            models, backends=backends, threads=threads or ((1,) if tables is None else (1, 2)), image_sizes=image_hw,
            num_keypoints=num_keypoints, batch_sizes=batch_sizes, reference=reference, tables=tables, scope=scope,
            codec=codec, runs=runs, seconds=seconds, keep_memory=keep_memory, device=device, json_file=json,
        )  # fmt: skip
    print(result.as_markdown())
    if json is not None:
        print(f"written: {', '.join(map(str, [json, *save_report(result, json)]))}")
    if not result.finished and render is None:
        raise KeyboardInterrupt


def _parse_box(text: str) -> tuple[float, float, float, float]:
    try:
        x, y, w, h = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--box {text}: write four numbers x,y,w,h in pixels, without spaces") from None
    return x, y, w, h


def _with_own_settings(words: list[str]) -> list[str]:
    """The words of ``train --resume RUN`` with that run's ``RESUME_FIELDS`` first, so that those typed later win.

    What tyro hands over does not tell an option that was not given from one that was given its default.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--resume", nargs="?", type=Path)
    resume = parser.parse_known_args(words)[0].resume
    if words[:1] != ["train"] or resume is None or not (resume / "last.safetensors").is_file():
        return words
    from lgmpose.zoo.tensor_files import read_tensors

    stored = read_tensors(resume / "last.safetensors")[1].get("config", {})
    own = [f"--{name.replace('_', '-')}={stored[name]}" for name in RESUME_FIELDS if name in stored]
    return ["train", *own, *words[1:]]


def main(arguments: list[str] | None = None) -> int:
    """Runs one command. Returns the exit status, see ``exit_status``."""

    def command() -> None:
        words = _with_own_settings(sys.argv[1:] if arguments is None else arguments)
        app.cli(prog="lgmpose", args=words, config=(tyro.conf.OmitArgPrefixes,), description=DESCRIPTION)

    return exit_status(command)


def exit_status(command: Callable[[], object]) -> int:
    """Runs a command. Returns 0, 2 for bad input (one line on stderr), 130 if it was stopped."""
    print_anywhere()
    try:
        command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a closed folder on the way, say, of which even asking for a file raises
        print(f"error: {as_sentence(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0

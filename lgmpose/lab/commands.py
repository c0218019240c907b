"""The command lines of this room: bench, verdict, ablate, profile and the group ``lgmpose lab``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro

from lgmpose.errors import UserError, require
from lgmpose.lab.ablate.rows import AblateConfig
from lgmpose.lab.bench.plan import BenchConfig
from lgmpose.lab.few_pictures import FewPicturesConfig
from lgmpose.lab.recovery import SearchConfig
from lgmpose.lab.verdict.paper_claims import VerdictConfig
from lgmpose.network.config import Fusion, GlobalBlock

__all__ = ["register"]

group = tyro.extras.SubcommandApp()


def register(app: tyro.extras.SubcommandApp) -> None:
    """Add this room's commands to the command line."""
    for command in (profile, bench, verdict, ablate):
        app.command(command)
    app.command(group, name="lab", help="Measure and compare: the paper's tables, labels, benchmarks, shipped weights.")


def ablate(config: AblateConfig, tabulate: bool = False) -> None:
    """Train LGM-Pose, variants of it with one change each (Tables 4 and 5, LARM), and other networks; compare them.

    It can be interrupted with Ctrl-C; the same command resumes it. Finished runs are not repeated.

    Args:
        tabulate: train nothing; only write the table and the plots of the finished runs in --json.
    """
    from lgmpose.lab.ablate.runner import ablate as run_ablations

    run_ablations(config, tabulate=tabulate)


def profile(  # the options of the command
    model: str = "lgm-pose-coco-256x192",
    image_hw: tuple[int, int] | None = None,
    num_keypoints: int | None = None,
    fusion: Fusion = "sfusion",
    global_block: GlobalBlock = "mobilevim",
    fps: bool = True,
    threads: int = 1,
    all: bool = False,
    table: Literal[1, 2, 3, 4, 5] | None = None,
    json: Path | None = None,
    list: bool = False,
) -> None:
    """Print the costs of a network, or of all: parameters, MACs by three conventions, memory, and the paper's numbers.

    Args:
        model: a name of --list; or any network: timm:NAME, torchvision:NAME, or package.module:function, a function
            without arguments that returns an nn.Module.
        image_hw: input height and width, if not the model's own.
        num_keypoints: number of joints, if not the model's own.
        fusion: how LGM-Pose's decoder joins its map with the encoder's, a row of the paper's Table 5.
        global_block: LGM-Pose's block that relates distant pixels, a row of the paper's Table 4.
        fps: also measure the speed of one network on this machine.
        threads: CPU threads for the speed measurement.
        all: print one table of all networks, with the numbers in the paper; by default at 256 192 for 17 keypoints.
        table: one of the paper's tables, 1 to 5, with our counts in every row.
        json: JSON file for the same numbers.
        list: print the models' names instead.
    """
    from lgmpose.lab.cost_tables import print_costs

    print_costs(
        model, image_hw=image_hw, num_keypoints=num_keypoints, fusion=fusion, global_block=global_block, fps=fps,
        threads=threads, all_networks=all, table=table, json_file=json, list_names=list,
    )  # fmt: skip


def bench(config: BenchConfig, json: Path | None = None, render: Path | None = None) -> None:
    """Measure how long networks take on this machine, and compare them; by default in about a minute.

    Every combination of a backend and a number of threads gets its own process. In it, the networks take turns.

    Args:
        json: where to keep the result; the report (.md) and the plot (.png) are written beside it.
        render: measure nothing; write report and plot of this result file again.
    """
    from lgmpose.lab.bench import bench as measure
    from lgmpose.lab.bench import load_results, markdown, save_report

    if json is not None and render is not None:
        raise UserError(f"--json {json}: --render measures nothing; its report is written beside {render}")
    result, path = (measure(config, json_file=json), json) if render is None else (load_results(render), render)
    print(markdown(result))
    if path is not None:
        print(f"written: {', '.join(map(str, [path, *save_report(result, path)]))}")
    if not result.finished and render is None:
        raise KeyboardInterrupt


def verdict(
    config: VerdictConfig,
    json: Path = Path("runs/verdict.json"),
    html: Path | None = None,
    render: tuple[Path, ...] = (),
) -> None:
    """Test the paper's claims about size and speed on this machine, in five to ten minutes on a quiet laptop.

    Prints a card: claim, the paper's figure, yours with its interval, and whether the claim holds, does not hold, or
    cannot be decided. After Ctrl-C, the card shows what was measured until then.

    Args:
        json: the result, for sharing; rewritten after each process. The card (.md) is written beside it.
        html: the card as a web page in one file.
        render: measure nothing; print the card of this result file, or a table of several files side by side.
    """
    from lgmpose.files import check_writable, write_atomically
    from lgmpose.lab.verdict.claim_timing import load_verdict, measure_verdict
    from lgmpose.lab.verdict.verdict_card import html_card, markdown_card, side_by_side

    if html is not None and len(render) > 1:
        raise UserError(f"--html {html}: a card shows one result; give one file to --render")
    if html is not None:
        check_writable(html)
    results = [load_verdict(path) for path in render] or [measure_verdict(config, json)]
    print(side_by_side(results) if len(results) > 1 else markdown_card(results[0]))
    if not render:
        write_atomically(json.with_suffix(".md"), markdown_card(results[0]).encode())
    if html is not None:
        write_atomically(html, html_card(results[0]).encode())
    if not render and not results[0].finished:
        raise KeyboardInterrupt


@group.command
def paper() -> None:
    """Print the errors of the paper as a Markdown table: what it says, what we find, and why."""
    from lgmpose.lab.slips import slips_table

    print(slips_table())


@group.command
def search(config: SearchConfig, json: Path = Path("runs/search.json")) -> None:
    """Search for networks that have all costs that the paper prints; a few minutes on one core.

    Args:
        json: the result; a page (.md) and a picture (.png) are written beside it.
    """
    from lgmpose.lab.bench.measurement import check_output, keep
    from lgmpose.lab.recovery import draw_space, page, search_networks
    from lgmpose.machine import machine_header

    check_output(json)
    require("matplotlib", "plot", "the picture of the search")
    result = {"command": "lgmpose lab search --json FILE", "header": machine_header(), **search_networks(config)}
    keep(result, page(result), json)
    draw_space(result, json.with_suffix(".png"))


@group.command
def agreement(data: tyro.conf.Positional[str], weights: Path | None = None, json: Path | None = None) -> None:
    """Measure how well two annotators of the same photographs agree, and how well a network agrees with them.

    Args:
        data: KIND:PATH of a data set with one person per picture (lspet).
        weights: a weights file; by default those for sports people.
        json: JSON file for the metrics.
    """
    from lgmpose.lab.agreement import measure_agreement

    measure_agreement(data, weights=weights, json_file=json)


@group.command
def ship(
    data: tyro.conf.Positional[str],
    runs: tyro.conf.Positional[tuple[Path, ...]],
    name: str | None = None,
    folder: Path | None = None,
) -> None:
    """Write a run's weights into the package, with ONNX file, figures, learning curve and model card.

    Args:
        data: the data to compute the metrics on, KIND:PATH.
        runs: the run's folder; or several, each of which started from the weights of the one before.
        name: the model name of the weights; by default that of the shipped weights.
        folder: where to write; by default the package's weights folder.
    """
    from lgmpose.lab.ship import ship as ship_weights
    from lgmpose.zoo.cards import SHIPPED, WEIGHTS_FOLDER

    ship_weights(data, runs, name=name or SHIPPED[0], folder=folder or WEIGHTS_FOLDER)


@group.command(name="bench-training")
def bench_training(
    settings: tuple[str, ...] = ("allocator", "channels_last", "default", "bf16"),
    sides: tuple[int, ...] = (128, 256),
    rounds: int = 3,
    steps: int = 8,
    threads: int | None = None,
    json: Path | None = None,
) -> None:
    """Measure how many pictures per second a training step takes, for several settings of PyTorch.

    Args:
        settings: allocator, channels_last, default, bf16 or compile; plain is always measured, for comparison.
        sides: input sizes in pixels, 128 or 256.
        rounds: rounds in which all settings take turns.
        steps: steps per round and setting.
        threads: CPU threads; None: all cores.
        json: where to keep the result; a page (.md) is written beside it.
    """
    from lgmpose.lab.bench.measurement import check_output, keep
    from lgmpose.lab.bench.training_step import measure_training, training_page

    check_output(json)
    result = measure_training(settings, sides, rounds=rounds, steps=steps, threads=threads)
    keep(result, training_page(result), json)


@group.command(name="few-pictures")
def few_pictures(config: FewPicturesConfig, json: Path = Path("runs/few-pictures.json")) -> None:
    """Train on 10 to 500 labelled persons, from the sports weights and from random ones, and tabulate PCK@0.2.

    It can be interrupted with Ctrl-C; the same command resumes it. Finished cells of the table are not repeated.

    Args:
        json: the result; the table (.md) is written beside it.
    """
    from lgmpose.lab.few_pictures import measure_few_pictures, page

    print(page(measure_few_pictures(config, json)))

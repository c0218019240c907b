"""Train LGM-Pose at growing input sizes within a time limit, made for one GPU.

    python data_scripts/train_in_stages.py sets.toml --teacher tinypose_256x192.param --minutes 9

``sets.toml`` lists the data (docs/own_pictures.md, "Several data sets"). Each stage is a run in its own folder that
starts from the weights of the stage before. The same command goes on where an interrupted one stopped. The result is
``best.safetensors`` of the last stage.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from lgmpose.data.augment import Augmentation
from lgmpose.errors import UserError, run_script
from lgmpose.files import read_json
from lgmpose.training.recipe import TrainConfig
from lgmpose.training.trainer import resume, train


@dataclass(frozen=True)
class Stages:
    """Train at growing input sizes within a time limit."""

    sets: tyro.conf.Positional[Path]  # TOML file that lists the data sets
    out: Path = Path("runs/stages")  # folder of the stages' runs
    teacher: str | None = None  # see `lgmpose train --help`
    teacher_turns: bool = False  # the teacher sees each person at four rotations: for people upside down
    minutes: float = 9.0  # of the whole command, by the clock
    sizes: tuple[str, ...] = ("128x96", "192x128", "256x192")  # height and width of the stages
    shares: tuple[float, ...] = (0.25, 0.25, 0.5)  # of the time, per stage
    reserve: float = 0.5  # minutes per stage for reading pictures and for the evaluation
    model: str = "lgm-pose-coco-256x192"
    init_weights: str | None = "lgm-pose-lspet-128x128.safetensors"  # of the first stage
    batch_size: int = 256
    learning_rate: float = 4e-3
    device: str = "auto"
    workers: int | None = None  # loader processes
    compile: bool = False  # use torch.compile, which takes minutes at each stage's start


def stage_config(stages: Stages, number: int, minutes: float, before: list[Path]) -> TrainConfig:
    """Return the settings of one stage.

    Args:
        stages: the command's options.
        number: of the stage, from 0.
        minutes: training time of the stage.
        before: the folders of the earlier stages.
    """
    height, width = (int(side) for side in stages.sizes[number].split("x"))
    teacher = stages.teacher
    if teacher is not None and before:
        teacher = str(before[0] / "teacher.npz")  # the persons are the same at every size
    return TrainConfig(
        data=f"mix:{stages.sets}", model=stages.model, image_hw=(height, width), minutes=minutes, epochs=10_000,
        init_weights=str(before[-1] / "best.safetensors") if before else stages.init_weights, eval_every=10_000,
        batch_size=stages.batch_size, optimizer="adamw", learning_rate=stages.learning_rate, weight_decay=0.01,
        schedule="cosine", warmup_steps=100, ema_decay=0.999, codec="dark", sigma=2.0 if height >= 256 else 1.5,
        augmentation=Augmentation(scale_factor=0.35, colour=0.2, occlusion_prob=0.3), teacher=teacher, cache="device",
        teacher_turns=stages.teacher_turns, bad_images="skip", device=stages.device, workers=stages.workers,
        compile=stages.compile, checkpoint_minutes=1.0,
    )  # fmt: skip


def main(stages: Stages) -> None:
    """Run the stages that are not finished."""
    start, before = time.monotonic(), list[Path]()
    for size in stages.sizes:
        if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", size):
            raise UserError(f"--sizes {size}: write height and width, such as 256x192")
    if len(stages.shares) != len(stages.sizes):
        raise UserError(f"--shares {stages.shares}: give one for each of the {len(stages.sizes)} sizes")
    for number, size in enumerate(stages.sizes):
        run_dir = stages.out / f"{number + 1}-{size}"
        left = stages.minutes - (time.monotonic() - start) / 60
        minutes = (left - stages.reserve * (len(stages.sizes) - number)) * stages.shares[number]
        minutes /= sum(stages.shares[number:])
        if (run_dir / "last.pt").is_file():
            given = read_json(run_dir / "config.json")["minutes"]
            print(f"stage {size}: resumed, with the {given:.1f} minutes that it was given")
            resume(run_dir)  # returns at once where the stage is finished
        elif minutes <= 0:
            raise UserError(f"--minutes {stages.minutes}: no time is left for the stage {size}")
        else:
            print(f"stage {size}: {minutes:.1f} minutes")
            train(stage_config(stages, number, minutes, before), run_dir)
        before.append(run_dir)
    print(f"done after {(time.monotonic() - start) / 60:.1f} minutes: {before[-1] / 'best.safetensors'}")


if __name__ == "__main__":
    run_script(lambda: main(tyro.cli(Stages)))

"""Batches for training and evaluation: which samples in which order, heatmaps made, tensors on the device."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lgmpose.data.batches import choose_workers, count_errors
from lgmpose.data.crops import CropDataset
from lgmpose.data.images import IMAGE_MEAN, IMAGE_STD
from lgmpose.pose.codecs import StandardCodec

__all__ = ["IMAGE_MEAN", "IMAGE_STD", "EpochSampler", "choose_workers", "count_errors", "make_loader", "to_input"]


def to_input(images: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 RGB → (B, 3, H, W) float32, normalised; lies in memory as channels_last."""
    scale = 1 / (255 * torch.tensor(IMAGE_STD, device=images.device))
    shift = torch.tensor(IMAGE_MEAN, device=images.device) / torch.tensor(IMAGE_STD, device=images.device)
    return (images * scale - shift).permute(0, 3, 1, 2)


class EpochSampler:
    """Batches of (epoch, index) keys for one epoch, from any step on, for one of several processes.

    The order is a permutation seeded by (seed, epoch). Of each global batch, process ``rank`` takes its own slice. What
    does not fill a batch at the end of the epoch is left out of it; the next epoch's order is another.
    """

    def __init__(
        self, length: int, batch_size: int, *, seed: int, epoch: int, first_step: int = 0, rank: int = 0, world: int = 1
    ):
        self.length, self.batch_size, self.seed, self.epoch = length, batch_size, seed, epoch
        self.first_step, self.rank, self.world = first_step, rank, world

    @property
    def steps(self) -> int:
        """Steps of the whole epoch."""
        return self.length // self.batch_size

    def __len__(self) -> int:
        return max(0, self.steps - self.first_step)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        share = self.batch_size // self.world
        for step in range(self.first_step, self.steps):
            start = step * self.batch_size + self.rank * share
            yield [(self.epoch, int(i)) for i in order[start : start + share]]


class _Collate:
    """Samples → one dict of tensors, heatmaps included; of unreadable pictures only their ``errors`` are kept."""

    def __init__(self, codec: StandardCodec, with_heatmaps: bool):
        self.codec, self.with_heatmaps = codec, with_heatmaps

    def __call__(self, samples: list[dict]) -> dict:
        good = [sample for sample in samples if sample["image"] is not None]
        batch = {
            "errors": [sample["error"] for sample in samples if sample["image"] is None],
            "index": torch.tensor([sample["index"] for sample in good]),
        }
        if not good:
            return batch
        batch["image"] = torch.from_numpy(np.stack([sample["image"] for sample in good]))
        batch["matrix"] = torch.from_numpy(np.stack([sample["matrix"] for sample in good]))
        if self.with_heatmaps:
            heatmaps, weights = self.codec.encode(
                np.stack([sample["keypoints_xy"] for sample in good]), np.stack([s["visibility"] for s in good])
            )
            batch["heatmaps"], batch["weights"] = torch.from_numpy(heatmaps), torch.from_numpy(weights)
        return batch


def _start_worker(worker_id: int) -> None:
    import cv2

    cv2.setNumThreads(0)  # a worker is one of several already
    torch.set_num_threads(1)
    # Ctrl-C reaches the whole process group; the main process finishes its step first. Orphans end by themselves.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def make_loader(
    dataset: CropDataset, codec: StandardCodec, sampler, *, workers: int, with_heatmaps: bool = True
) -> DataLoader:
    """A loader over ``sampler`` (an iterable of lists of keys), which yields dicts of CPU tensors."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=_Collate(codec, with_heatmaps),
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # else every new iterator would draw from the global one, which dropout uses
        worker_init_fn=_start_worker,
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
    )

"""Batches of crops: which samples in which order, collated, read ahead by threads or by PyTorch's loader processes.

PyTorch is imported only where tensors are made: networks exported to other runtimes are evaluated without it.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from lgmpose.data.crops import CropDataset
from lgmpose.data.images import IMAGE_MEAN, IMAGE_STD
from lgmpose.errors import UserError
from lgmpose.machine import num_cores
from lgmpose.pose.codecs import StandardCodec

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.utils.data import DataLoader

__all__ = [
    "Encode", "EpochSampler", "choose_workers", "count_errors", "draws_per_epoch", "load_batches", "loader_options",
    "make_loader", "to_input",
]  # fmt: skip

JOINTS = ("keypoints_xy", "visibility", "peaks")  # of a sample; the last one only with a teacher
# From arrays of them to heatmaps and weights, or to rows, columns and weights (``StandardCodec.profiles``).
Encode = Callable[..., tuple[np.ndarray, ...]]
LOADER_TIMEOUT = 300  # seconds without a batch; then a loader process has failed without a word


def choose_workers(requested: int | None) -> int:
    """Return the number of loader processes: the requested one, else what the cores can spare.

    On macOS and Windows, and in notebooks, it is 0. Processes are spawned there, which is slow, and hangs if the main
    module cannot be imported again.

    Raises:
        UserError: A negative number is requested.
    """
    if requested is not None:
        if requested < 0:
            raise UserError(f"workers {requested}: give 0 or more")
        return requested
    if sys.platform != "linux" or "ipykernel" in sys.modules:
        return 0
    return min(8, max(1, num_cores() // 2))


def count_errors(batch: dict[str, Any], bad_images: str) -> int:
    """Return how many pictures of a batch could not be read.

    Raises:
        UserError: There is one, and ``bad_images`` is ``refuse``.
    """
    if batch["errors"] and bad_images == "refuse":
        raise UserError(f"{batch['errors'][0]}; --bad-images skip leaves such pictures out")
    return len(batch["errors"])


def draws_per_epoch(parts: Sequence[tuple[int, float]], total: int | None = None) -> list[tuple[int, int]]:
    """Return how many samples of each set are drawn per epoch, as ``EpochSampler`` takes them.

    Args:
        parts: (number of samples, weight) of each set. A weight of 2 draws a sample twice as often as a weight of 1.
        total: samples per epoch; None: as many as there are, times their weights.
    """
    shares = np.cumsum([samples * weight for samples, weight in parts])
    ends = np.round(shares * (1 if total is None else total / shares[-1])).astype(int).tolist()
    return [(samples, end - start) for (samples, _), start, end in zip(parts, [0, *ends], ends, strict=False)]


@dataclass(frozen=True)
class EpochSampler:
    """Batches of keys for one epoch, from any step on, for one of several processes.

    A key is (epoch, index). A sample that comes again in the same epoch has the key (epoch, index, n), so that it is
    augmented differently. The order is a permutation seeded by (seed, epoch). Of each global batch, process ``rank``
    takes its own slice. What does not fill a batch at the end of the epoch is left out; the next epoch has another
    order.

    Attributes:
        length: number of samples.
        batch_size: samples per global batch.
        seed: seed of all orders.
        epoch: which order.
        first_step: steps already done.
        rank: number of this process.
        world: number of processes.
        draws: (number of samples, how many of them are drawn per epoch) of each set, see ``draws_per_epoch``; None:
            each sample comes once.
    """

    length: int
    batch_size: int
    seed: int
    epoch: int
    first_step: int = 0
    rank: int = 0
    world: int = 1
    draws: Sequence[tuple[int, int]] | None = None

    @property
    def steps(self) -> int:
        """Steps of the whole epoch."""
        total = self.length if self.draws is None else sum(drawn for _, drawn in self.draws)
        return total // self.batch_size

    def __len__(self) -> int:
        return max(0, self.steps - self.first_step)

    def __iter__(self) -> Iterator[list[tuple[int, ...]]]:
        order = self._order()
        share = self.batch_size // self.world
        for step in range(self.first_step, self.steps):
            start = step * self.batch_size + self.rank * share
            yield [(self.epoch, index, *([n] if n else [])) for index, n in order[start : start + share]]

    def _order(self) -> list[tuple[int, int]]:
        """Return (index, how often it came before in this epoch) of all samples of the epoch."""
        rng = np.random.default_rng((self.seed, self.epoch))
        order, first, draws = [], 0, self.draws or [(self.length, self.length)]
        for samples, drawn in draws:
            rounds = -(-drawn // samples)
            order += [(first + int(i), n) for n in range(rounds) for i in rng.permutation(samples)][:drawn]
            first += samples
        return order if len(draws) == 1 else [order[i] for i in rng.permutation(len(order))]


def _collate(samples: list[dict[str, Any]], encode: Encode | None = None) -> dict[str, Any]:
    """Return samples as one dict of arrays, with heatmaps made by ``encode``; of unreadable pictures the errors."""
    good = [sample for sample in samples if "error" not in sample]
    batch: dict[str, Any] = {
        "errors": [sample["error"] for sample in samples if "error" in sample],
        "index": np.array([sample["index"] for sample in good], int),
    }
    if good:
        stacked = {name: np.stack([sample[name] for sample in good]) for name in good[0] if name != "index"}
        labels = [stacked.pop(name) for name in JOINTS if name in stacked]
        batch |= stacked
        if encode is not None:
            made = encode(*labels)
            names = ("heatmaps", "weights") if len(made) == 2 else ("rows", "columns", "weights")
            batch |= dict(zip(names, made, strict=True))
    return batch


def load_batches(
    dataset: CropDataset, keys: Sequence[Sequence[int]], *, workers: int
) -> Iterator[dict[str, Any]]:
    """Yield crops in batches; the next batch is read while the caller works on this one.

    Threads are enough, because OpenCV decodes and warps without Python's lock.

    Args:
        dataset: the crops.
        keys: the samples of each batch.
        workers: number of threads; 0 reads in the calling thread.

    Yields:
        ``errors`` of unreadable pictures, and of the others ``index`` (b,), ``image`` (b, H, W, 3) uint8 and
        ``matrix`` (b, 2, 3); without ``image`` and ``matrix`` where none could be read.
    """
    if workers == 0:
        yield from (_collate([dataset[key] for key in batch]) for batch in keys)
        return
    with ThreadPoolExecutor(workers) as pool:
        coming = [pool.map(dataset.__getitem__, batch) for batch in keys[:1]]
        for number in range(len(keys)):
            coming += [pool.map(dataset.__getitem__, batch) for batch in keys[number + 1 : number + 2]]
            yield _collate(list(coming.pop(0)))


def to_input(images: Tensor) -> Tensor:
    """Return the network's input (B, 3, H, W) float32, channels_last, of crops (B, H, W, 3) uint8 RGB."""
    scale, shift = _scale_and_shift(images.device)
    return (images * scale - shift).permute(0, 3, 1, 2)


@lru_cache
def _scale_and_shift(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the constants of ``to_input``. They are kept on a GPU: every transfer would wait for it."""
    import torch

    with torch.inference_mode(False):
        mean, std = torch.tensor(IMAGE_MEAN, device=device), torch.tensor(IMAGE_STD, device=device)
        return 1 / (255 * std), mean / std


class _TensorCollate:
    """``_collate`` with tensors, which loader processes hand over in shared memory."""

    def __init__(self, encode: Encode | None):
        self.encode = encode

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        import torch

        batch = _collate(samples, self.encode)
        return {name: value if name == "errors" else torch.from_numpy(value) for name, value in batch.items()}


def _start_worker(worker_id: int) -> None:
    import cv2
    import torch

    cv2.setNumThreads(0)  # a worker is one of several already
    torch.set_num_threads(1)
    # Ctrl-C reaches the whole process group; the main process finishes its step first. Orphans end by themselves.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def make_loader(
    dataset: CropDataset,
    codec: StandardCodec,
    sampler: Iterable[list[Any]],
    *,
    workers: int,
    with_heatmaps: bool = True,
    encode: Encode | None = None,
) -> DataLoader:
    """Return PyTorch's loader, which yields what ``load_batches`` does, as CPU tensors.

    Args:
        dataset: the crops.
        codec: encodes the joints as heatmaps.
        sampler: lists of keys, one per batch.
        workers: number of loader processes; 0 reads in the calling process.
        encode: makes heatmaps and weights of the samples' joints instead of the codec.
        with_heatmaps: add ``heatmaps`` (b, K, h, w) and ``weights`` (b, K).
    """
    from torch.utils.data import DataLoader

    return DataLoader(
        dataset,  # type: ignore[arg-type]  # any object with these two methods will do
        batch_sampler=sampler,
        collate_fn=_TensorCollate((encode or codec.encode) if with_heatmaps else None),
        **loader_options(workers),
    )


def loader_options(workers: int) -> dict[str, Any]:
    """Return the options of PyTorch's loader that do not depend on what is loaded; see ``make_loader``."""
    import torch

    return {
        "num_workers": workers,
        "pin_memory": torch.cuda.is_available(),
        "generator": torch.Generator(),  # else every new iterator would draw from the global one, which dropout uses
        "worker_init_fn": _start_worker,
        "timeout": LOADER_TIMEOUT if workers else 0,
        "multiprocessing_context": "fork" if workers and sys.platform == "linux" else None,
    }

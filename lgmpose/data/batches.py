"""Batches of crops without PyTorch, read ahead by threads."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from lgmpose.data.crops import CropDataset
from lgmpose.errors import UserError
from lgmpose.machine import num_cores

__all__ = ["choose_workers", "count_errors", "load_batches"]

def choose_workers(requested: int | None) -> int:
    """Loader processes: as asked, else 0 where starting them is slow or fragile, else what the cores can spare.

    macOS and Windows spawn (and hang in notebooks, where the main module cannot be imported again): 0.
    """
    if requested is not None:
        if requested < 0:
            raise UserError(f"workers {requested}: not below 0")
        return requested
    if sys.platform != "linux" or "ipykernel" in sys.modules:
        return 0
    return min(8, max(1, num_cores() // 2))


def count_errors(batch: dict, bad_images: str) -> int:
    """How many pictures of a batch could not be read. Raises UserError for the first where they are to be refused."""
    if batch["errors"] and bad_images == "refuse":
        raise UserError(f"{batch['errors'][0]}; --bad-images skip leaves such pictures out")
    return len(batch["errors"])


def load_batches(dataset: CropDataset, keys: Sequence[Sequence[int]], *, workers: int) -> Iterator[dict[str, Any]]:
    """Crops in batches; the next batch is read while the caller works on this one.

    Threads are enough, for OpenCV decodes and warps outside Python's lock.

    Args:
        keys: the samples of each batch.
        workers: threads; 0 reads within the calling one.

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


def _collate(samples: list[dict]) -> dict[str, Any]:
    good = [sample for sample in samples if sample["image"] is not None]
    batch = {
        "errors": [sample["error"] for sample in samples if sample["image"] is None],
        "index": np.array([sample["index"] for sample in good], int),
    }
    if good:
        batch |= {name: np.stack([sample[name] for sample in good]) for name in ("image", "matrix")}
    return batch

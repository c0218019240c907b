"""Keep all crops of a training set in a device's memory and augment them there: ``lgmpose train --cache device``.

A small network on a GPU needs thousands of crops per second, more than a few CPU cores can decode. So each picture is
decoded once. For each person, the unchanged crop with a margin is kept as uint8. A step takes its crops from there by
one ``grid_sample``. Loader processes compute geometry and the profiles of the targets, from the same random numbers as
without a cache. So both ways give the same crops, except for rounding, one more interpolation, and black beyond the
margin.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lgmpose.data.batches import count_errors, make_loader
from lgmpose.data.crops import CropDataset, CropPlans
from lgmpose.data.records import PersonRecord
from lgmpose.errors import UserError
from lgmpose.pose.codecs import StandardCodec
from lgmpose.pose.geometry import crop_matrix, fit_aspect

__all__ = ["MARGIN", "DeviceCrops"]

MARGIN = (1.25, 1.5)  # rows and columns that are kept, times those of the crop; rotated crops need the width
BATCH = 64  # crops that are copied at once


class DeviceCrops:
    """The kept crops of a data set.

    Attributes:
        pixels: (n, rows, columns, 3) uint8 on the device.
        plans: the data set to load instead of ``dataset``.

    Args:
        dataset: the crops of a training; one pixel of a kept crop is one pixel of its unchanged crop.
        codec: of the training; heatmaps are not made here.
        device: where to keep the crops.
        workers: loader processes that decode the pictures.
        bad_images: ``refuse`` or ``skip`` unreadable pictures.

    Raises:
        UserError: the device has not enough memory, or a picture is unreadable.
    """

    def __init__(
        self, dataset: CropDataset, codec: StandardCodec, device: torch.device, *, workers: int, bad_images: str
    ):
        self.image_hw = dataset.image_hw
        cache_hw = math.ceil(MARGIN[0] * self.image_hw[0]), math.ceil(MARGIN[1] * self.image_hw[1])
        n, growth_wh = len(dataset), np.divide(cache_hw, self.image_hw)[::-1]

        def widened(record: PersonRecord) -> PersonRecord:
            return replace(record, size_wh=fit_aspect(record.size_wh, self.image_hw) * growth_wh)

        records = tuple(map(widened, dataset.record_set.records))
        try:
            self.pixels = torch.empty((n, *cache_hw, 3), dtype=torch.uint8, device=device)
        except RuntimeError as error:
            size = n * math.prod(cache_hw) * 3 / 1e9
            raise UserError(f"--cache device: {size:.1f} GB do not fit in the memory of {device}") from error
        wide = CropDataset(replace(dataset.record_set, records=records), cache_hw)
        keys = [list(range(i, min(i + BATCH, n))) for i in range(0, n, BATCH)]
        unread = dict.fromkeys(range(n), "unreadable picture")
        for batch in make_loader(wide, codec, keys, workers=workers, with_heatmaps=False):
            count_errors(batch, bad_images)
            if "image" in batch:
                self.pixels[batch["index"].to(device)] = batch["image"].to(device, non_blocking=True)
                for index in batch["index"].tolist():
                    del unread[index]
        matrices = np.stack([crop_matrix(record.center_xy, record.size_wh, cache_hw) for record in records])
        self.plans = CropPlans(dataset, matrices, unread)

    def with_images(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return a batch of ``plans`` with ``image`` (b, H, W, 3) float32 0..255 and ``heatmaps`` on the device.

        Args:
            batch: also has rows (b, K, h) or (b, K, terms, h), and columns likewise; see ``StandardCodec.profiles``.
                With SimCC's targets in their place, these stay as they are.
        """
        if "to_cache" not in batch:  # no picture of the batch could be read
            return batch
        names = ("index", "to_cache", "gain", "shift", "hidden", "hidden_rgb")
        device = self.pixels.device
        batch |= {"image": self.warp(*(batch[name].to(device, non_blocking=True) for name in names))}
        if "rows" not in batch:  # SimCC has no maps to multiply
            return batch
        rows, columns = (batch[name].to(device, non_blocking=True) for name in ("rows", "columns"))
        rows, columns = (profile.view(*profile.shape[:2], -1, profile.shape[-1]) for profile in (rows, columns))
        heatmaps = (rows[..., None] * columns[..., None, :]).sum(dim=2)  # over the terms
        return batch | {"heatmaps": heatmaps}

    def warp(
        self, index: Tensor, to_cache: Tensor, gain: Tensor, shift: Tensor, hidden: Tensor, hidden_rgb: Tensor
    ) -> Tensor:
        """Return augmented crops; the arguments are those of ``CropPlans``, stacked."""
        (H, W), device = self.image_hw, self.pixels.device
        rows, columns = torch.meshgrid(torch.arange(H, device=device), torch.arange(W, device=device), indexing="ij")
        points = torch.stack([columns, rows], dim=-1).reshape(H * W, 2).float()
        places = points @ to_cache[:, :, :2].transpose(1, 2) + to_cache[:, None, :, 2]  # (b, H · W, 2), kept pixels
        size_wh = torch.tensor([self.pixels.shape[2], self.pixels.shape[1]], device=device)
        grid = ((2 * places + 1) / size_wh - 1).view(-1, H, W, 2)
        kept = self.pixels[index].permute(0, 3, 1, 2).float()
        crops = F.grid_sample(kept, grid, align_corners=False).permute(0, 2, 3, 1)  # bilinear, black outside
        crops = ((crops - 128) * gain[:, None, None] + 128 + shift[:, None, None, None]).clamp(0, 255)
        top, left, bottom, right = hidden[:, :, None, None].unbind(1)
        covered = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
        return torch.where(covered[..., None], hidden_rgb[:, None, None], crops).contiguous()

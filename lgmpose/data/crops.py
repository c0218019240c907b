"""Crops of records: what a network sees of a person, with the joints in crop pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from lgmpose.data.augment import (
    Augmentation,
    augment_record,
    change_colour,
    colour_change,
    occlude,
    occluder,
)
from lgmpose.data.images import read_annotated
from lgmpose.data.records import RecordSet
from lgmpose.errors import UserError
from lgmpose.pose.geometry import crop_matrix, invert_matrix, transform_points, warp_image

__all__ = ["CropDataset", "CropPlans"]


class CropDataset:
    """Crops of a record set, ready to be batched; a map-style data set without state.

    ``dataset[epoch, index]`` (or ``dataset[index]``, epoch 0) depends on (seed, epoch, index) alone. So any number
    of workers, any order and any resumption give the same crops. With ``dataset[epoch, index, n]``, each n is another
    crop of the same person.

    A sample is a dict: ``image`` (H, W, 3) uint8 RGB crop, ``keypoints_xy`` (K, 2) float32 in crop pixels,
    ``visibility`` (K,) int64, ``matrix`` (2, 3) float64 from picture to crop, ``index``. For a picture that cannot be
    read, ``image`` is None and ``error`` says why. An exception would end a loader process with a traceback. With
    ``teacher``, ``peaks`` (K, 3) are the peaks of a teacher in crop pixels, with their heights.

    Args:
        record_set: the persons.
        image_hw: (H, W) of the crops.
        aligned: UDP's alignment, as the codec wants it.
        augmentation: random changes, for training.
        seed: seed of these changes.
        rotation_deg: rotation of every crop, see ``geometry.crop_matrix``.
        teacher: (n, K, 3) peaks of a teacher: x, y in picture pixels, height; see ``training.distill``.
    """

    def __init__(
        self,
        record_set: RecordSet,
        image_hw: tuple[int, int],
        *,
        aligned: bool = False,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        rotation_deg: float = 0.0,
        teacher: np.ndarray | None = None,
    ):
        self.record_set, self.image_hw, self.aligned = record_set, (image_hw[0], image_hw[1]), aligned
        self.augmentation, self.seed, self.rotation_deg, self.teacher = augmentation, seed, rotation_deg, teacher

    def __len__(self) -> int:
        return len(self.record_set)

    def __getitem__(self, key: int | tuple[int, ...]) -> dict[str, Any]:
        sample, rng = self._plan(key)
        record = self.record_set.records[sample["index"]]
        try:
            image = read_annotated(record.image, record.stated_hw, record.as_shown)
        except UserError as error:
            return {"image": None, "error": str(error), "index": sample["index"]}
        crop = warp_image(image, sample["matrix"], self.image_hw)
        if self.augmentation is not None and self.augmentation.colour > 0:
            crop = change_colour(crop, self.augmentation.colour, rng)
        if self.augmentation is not None and rng.random() < self.augmentation.occlusion_prob:
            crop = occlude(crop, rng)
        return sample | {"image": crop}

    def _plan(self, key: int | tuple[int, ...]) -> tuple[dict[str, Any], np.random.Generator]:
        """Return a sample without its image, and the generator that draws the changes of the pixels."""
        epoch, index, *again = key if isinstance(key, tuple) else (0, int(key))
        record, skeleton = self.record_set.records[index], self.record_set.skeleton
        center_xy, size_wh, rotation, flip = record.center_xy, record.size_wh, self.rotation_deg, False
        rng = np.random.default_rng((self.seed, epoch, index, *again))
        if self.augmentation is not None:
            center_xy, size_wh, rotation, flip = augment_record(record, skeleton.upper_body, self.augmentation, rng)
        matrix = crop_matrix(
            center_xy, size_wh, self.image_hw, rotation_deg=rotation, flip=flip, aligned=self.aligned
        )
        order = list(skeleton.flip_permutation) if flip else slice(None)
        sample = {
            "keypoints_xy": transform_points(matrix, record.keypoints_xy)[order].astype(np.float32),
            "visibility": record.visibility[order].astype(np.int64),
            "matrix": matrix,
            "index": index,
        }
        if self.teacher is not None:
            places, heights = self.teacher[index, :, :2], self.teacher[index, :, 2:]
            sample["peaks"] = np.concatenate([transform_points(matrix, places), heights], axis=1)[order]
        return sample, rng


class CropPlans(CropDataset):
    """What ``CropDataset`` does to the pixels, for crops that are kept on the device (``training.device_crops``).

    Instead of ``image``, a sample has ``to_cache`` (2, 3), from the crop's pixels to those of the kept crop; ``gain``
    (3,) and ``shift`` of ``augment.colour_change``; ``hidden`` (4,) and ``hidden_rgb`` (3,) of ``augment.occluder``.

    Args:
        of: the crops.
        cache_matrices: (n, 2, 3) from the picture to the kept crop.
        unread: persons whose picture could not be read, and why.
    """

    def __init__(self, of: CropDataset, cache_matrices: np.ndarray, unread: dict[int, str]):
        super().__init__(
            of.record_set, of.image_hw, aligned=of.aligned, augmentation=of.augmentation, seed=of.seed,
            rotation_deg=of.rotation_deg, teacher=of.teacher,
        )  # fmt: skip
        self.cache_matrices, self.unread = cache_matrices, unread

    def __getitem__(self, key: int | tuple[int, ...]) -> dict[str, Any]:
        sample, rng = self._plan(key)
        if (index := sample["index"]) in self.unread:
            return {"image": None, "error": self.unread[index], "index": index}
        back, there = invert_matrix(sample["matrix"]), self.cache_matrices[index]
        offset = there[:, :2] @ back[:, 2] + there[:, 2]
        gain, shift, hidden, rgb = np.ones(3), 0.0, np.zeros(4, int), np.zeros(3, int)
        if self.augmentation is not None and self.augmentation.colour > 0:
            gain, shift = colour_change(self.augmentation.colour, rng)
        if self.augmentation is not None and rng.random() < self.augmentation.occlusion_prob:
            hidden, rgb = occluder(self.image_hw, rng)
        pixels = {"to_cache": np.column_stack([there[:, :2] @ back[:, :2], offset]), "gain": gain, "hidden_rgb": rgb}
        pixels = {name: value.astype(np.float32) for name, value in pixels.items()}
        return sample | pixels | {"shift": np.float32(shift), "hidden": hidden}

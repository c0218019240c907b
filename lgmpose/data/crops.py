"""Crops of records: what a network sees of a person, with the joints in crop pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from lgmpose.data.augment import Augmentation, augment_record, change_colour, occlude
from lgmpose.data.images import read_annotated
from lgmpose.data.records import RecordSet
from lgmpose.errors import UserError
from lgmpose.pose.geometry import crop_matrix, transform_points, warp_image

__all__ = ["CropDataset"]


class CropDataset:
    """Crops of a record set, ready to be batched; a map-style data set without state.

    ``dataset[epoch, index]`` (or ``dataset[index]``, epoch 0) depends on (seed, epoch, index) alone. So any number
    of workers, any order and any resumption give the same crops. With ``dataset[epoch, index, n]``, each n is another
    crop of the same person.

    A sample is a dict: ``image`` (H, W, 3) uint8 RGB crop, ``keypoints_xy`` (K, 2) float32 in crop pixels,
    ``visibility`` (K,) int64, ``matrix`` (2, 3) float64 from picture to crop, ``index``. For a picture that cannot be
    read, ``image`` is None and ``error`` says why, because an exception would end a loader process with a traceback.

    Args:
        record_set: the persons.
        image_hw: (H, W) of the crops.
        aligned: UDP's alignment, as the codec wants it.
        augmentation: random changes, for training.
        seed: seed of these changes.
    """

    def __init__(
        self,
        record_set: RecordSet,
        image_hw: tuple[int, int],
        *,
        aligned: bool = False,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ):
        self.record_set, self.image_hw, self.aligned = record_set, (image_hw[0], image_hw[1]), aligned
        self.augmentation, self.seed = augmentation, seed

    def __len__(self) -> int:
        return len(self.record_set)

    def __getitem__(self, key: int | tuple[int, ...]) -> dict[str, Any]:
        epoch, index, *again = key if isinstance(key, tuple) else (0, int(key))
        record, skeleton = self.record_set.records[index], self.record_set.skeleton
        try:
            image = read_annotated(record.image, record.stated_hw)
        except UserError as error:
            return {"image": None, "error": str(error), "index": index}
        center_xy, size_wh, rotation, flip = record.center_xy, record.size_wh, 0.0, False
        rng = np.random.default_rng((self.seed, epoch, index, *again))
        if self.augmentation is not None:
            center_xy, size_wh, rotation, flip = augment_record(record, skeleton.upper_body, self.augmentation, rng)
        matrix = crop_matrix(
            center_xy, size_wh, self.image_hw, rotation_deg=rotation, flip=flip, aligned=self.aligned
        )
        crop = warp_image(image, matrix, self.image_hw)
        keypoints_xy, visibility = transform_points(matrix, record.keypoints_xy), record.visibility
        if flip:
            order = list(skeleton.flip_permutation)
            keypoints_xy, visibility = keypoints_xy[order], visibility[order]
        if self.augmentation is not None and self.augmentation.colour > 0:
            crop = change_colour(crop, self.augmentation.colour, rng)
        if self.augmentation is not None and rng.random() < self.augmentation.occlusion_prob:
            crop = occlude(crop, rng)
        return {
            "image": crop,
            "keypoints_xy": keypoints_xy.astype(np.float32),
            "visibility": visibility.astype(np.int64),
            "matrix": matrix,
            "index": index,
        }

"""Makes the synthetic set: drawn people with exactly known joints, in COCO's keypoint format. Nothing is downloaded.

python data_scripts/synthetic.py --out data/synthetic --num-images 1000 --seed 0
"""

from __future__ import annotations

import argparse
import json
import sys

from lgmpose.datasets.synthetic import make_synthetic
from lgmpose.errors import UserError


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Draw pictures of people with known joints and write them in COCO's keypoint format."
    )
    parser.add_argument("--out", default="data/synthetic", help="folder to write (default: %(default)s)")
    parser.add_argument("--num-images", type=int, default=1000, help="how many pictures (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds, equal pictures (default: %(default)s)")
    parser.add_argument("--image-hw", type=int, nargs=2, default=(256, 320), metavar=("H", "W"),
                        help="height and width of a picture in pixels (default: 256 320)")  # fmt: skip
    parser.add_argument("--max-people", type=int, default=3, help="most people in a picture (default: %(default)s)")
    args = parser.parse_args()
    try:
        annotations = make_synthetic(
            args.out, args.num_images, seed=args.seed, image_hw=tuple(args.image_hw), max_people=args.max_people
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    contents = json.loads(annotations.read_text(encoding="utf-8"))
    print(f"{len(contents['images'])} pictures with {len(contents['annotations'])} people")
    print(f"pictures:    {annotations.parent / 'images'}")
    print(f"annotations: {annotations}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Prepares COCO: fetches or takes the official files, unpacks and verifies them.

Usage: python data_scripts/coco.py --out data/coco --from DOWNLOADS
"""

from __future__ import annotations

import sys

from lgmpose.datasets import prepare

if __name__ == "__main__":
    sys.exit(prepare.main("coco", __doc__))

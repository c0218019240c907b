"""Prepare COCO: download or take the official archives, unpack and check them; the same as ``lgmpose data coco``.

Usage: python data_scripts/coco.py --help
"""

import sys

from lgmpose.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "coco", *sys.argv[1:]]))

"""Prepare MPII: download or take the official archives, check and convert them; the same as ``lgmpose data mpii``.

Usage: python data_scripts/mpii.py --help
"""

import sys

from lgmpose.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "mpii", *sys.argv[1:]]))

"""Prepares MPII: fetches or takes the official files, verifies and converts them; the same as ``lgmpose data mpii``.

Usage: python data_scripts/mpii.py --help
"""

import sys

from lgmpose.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "mpii", *sys.argv[1:]]))

"""Prepare LSPET: download or take the official zip and check it; the same as ``lgmpose data lspet``.

Usage: python data_scripts/lspet.py --help
"""

import sys

from lgmpose.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "lspet", *sys.argv[1:]]))

"""Prepares LSPET: fetches or takes the official zip and verifies it.

Usage: python data_scripts/lspet.py --out data/lspet --from lspet_dataset.zip
"""

from __future__ import annotations

import sys

from lgmpose.datasets import prepare

if __name__ == "__main__":
    sys.exit(prepare.main("lspet", __doc__))

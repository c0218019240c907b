"""Draw the synthetic data set; the same as ``lgmpose data synthetic``.

Usage: python data_scripts/synthetic.py --help
"""

import sys

from lgmpose.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "synthetic", *sys.argv[1:]]))

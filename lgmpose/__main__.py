"""Run the command line: ``python -m lgmpose``; ``torchrun -m lgmpose train …`` trains with several processes."""

import sys

from lgmpose.cli import main

sys.exit(main())

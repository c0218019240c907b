"""``python -m lgmpose`` is ``lgmpose``; ``torchrun --nproc-per-node N -m lgmpose train …`` trains on N processes."""

import sys

from lgmpose.cli import main

sys.exit(main())

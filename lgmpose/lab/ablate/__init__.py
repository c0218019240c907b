"""The ablations of Tables 4 and 5, and of LARM, and peers, trained by one recipe: run, resume, compare, tabulate.

``config`` says what is trained, ``run`` trains and measures it, ``results`` keeps it in one JSON file, ``compare``
turns that into differences with intervals and plain statements, ``report`` writes the table and draws the figure.
"""

from lgmpose.lab.ablate.recipe_rows import ABLATIONS, BASELINE, CHOICES, NETWORKS, PEERS, STORED, AblateConfig, Variant
from lgmpose.lab.ablate.statistics import Comparison, Difference, compare, paired_bootstrap, seed_margin, verdict

__all__ = [
    "ABLATIONS", "BASELINE", "CHOICES", "NETWORKS", "PEERS", "STORED", "AblateConfig", "Comparison", "Difference",
    "Variant", "compare", "paired_bootstrap", "seed_margin", "verdict",
]  # fmt: skip

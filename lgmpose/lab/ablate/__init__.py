"""The ablations of Tables 4 and 5, and of LARM, and peers, trained by one recipe.

``rows`` says what is trained, ``runner`` trains and measures it and keeps the results file, ``verdicts`` turns that
file into differences with intervals and statements, ``run_table`` writes the tables and draws the figures.
"""

from lgmpose.lab.ablate.rows import ABLATIONS, BASELINE, CHOICES, NETWORKS, OTHER_NETWORKS, RECIPE, STORED, AblateConfig
from lgmpose.lab.ablate.verdicts import Comparison, Difference, compare, counts, paired_bootstrap, seed_margin, verdict

__all__ = [
    "ABLATIONS", "BASELINE", "CHOICES", "NETWORKS", "OTHER_NETWORKS", "RECIPE", "STORED", "AblateConfig", "Comparison",
    "Difference", "compare", "counts", "paired_bootstrap", "seed_margin", "verdict",
]  # fmt: skip

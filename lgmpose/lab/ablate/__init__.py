"""The ablations of Tables 4 and 5, and of LARM, and peers, trained by one recipe.

``rows`` says what is trained and what is judged together. ``runner`` trains, measures, and keeps the results file.
``comparisons`` turns that file into differences with intervals and verdicts. ``run_table`` writes the report.
"""

from lgmpose.lab.ablate.rows import (
    ABLATIONS,
    BASELINE,
    CHOICES,
    FAMILIES,
    NETWORKS,
    OTHER_NETWORKS,
    RECIPE,
    STORED,
    AblateConfig,
)

__all__ = [
    "ABLATIONS", "BASELINE", "CHOICES", "FAMILIES", "NETWORKS", "OTHER_NETWORKS", "RECIPE", "STORED", "AblateConfig",
]  # fmt: skip

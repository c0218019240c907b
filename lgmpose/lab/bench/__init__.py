"""``lgmpose bench``: how fast networks run on this machine, side by side.

=================  ====================================================================================
``plan``           what to measure: networks, sizes, settings, the paper's tables
``runtimes``       what runs a network: add another runtime there
``worker``         the fresh process: one runtime, one number of threads, networks timed in rounds
``processes``      ``bench()``: one worker after the other
``measurement``    rows, medians and paired ratios; the JSON file
``latency_table``  the Markdown report; ``latency_plot`` draws it
=================  ====================================================================================

``training_step`` is another benchmark, of training.

>>> from lgmpose.lab.bench import BenchConfig, bench, markdown
>>> result = bench(BenchConfig(models=("lgm-pose-coco-256x192", "lite-hrnet-18")))
>>> print(markdown(result))
"""

from lgmpose.lab.bench.latency_plot import plot, save_report
from lgmpose.lab.bench.latency_table import markdown
from lgmpose.lab.bench.measurement import BenchResult, Row, load_results
from lgmpose.lab.bench.plan import BenchConfig
from lgmpose.lab.bench.processes import bench

__all__ = ["BenchConfig", "BenchResult", "Row", "bench", "load_results", "markdown", "plot", "save_report"]

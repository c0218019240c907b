"""``lgmpose bench``: how fast networks are, on this machine, side by side.

=============  =======================================================================================
``plan``       what to measure: networks, sizes, settings; the paper's tables; checks before anything runs
``backends``   what runs a network: the one place to add another runtime
``worker``     the fresh process: one backend, one number of threads, the measuring loop
``run``        ``bench()``: one worker after the other, progress, Ctrl-C, crashes
``result``     rows, medians and paired ratios; the JSON file
``report``     the Markdown tables and the plot
=============  =======================================================================================

>>> from lgmpose.lab.bench import bench
>>> result = bench(["lgm-pose-coco-256x192", "lite-hrnet-18"], threads=(1,))
>>> print(result.as_markdown())
"""

from lgmpose.lab.bench.plan import Settings, quick_models
from lgmpose.lab.bench.report import plot, save_report
from lgmpose.lab.bench.result import BenchResult, Row, load_results
from lgmpose.lab.bench.run import bench

__all__ = ["BenchResult", "Row", "Settings", "bench", "load_results", "plot", "quick_models", "save_report"]

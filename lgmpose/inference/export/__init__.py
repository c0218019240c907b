"""``lgmpose export``: a network as one file that runs without PyTorch.

============  ======================================================================================
``command``   ``export()``: checks, which network, which format, the card, the file
``graph``     network → ONNX graph, BatchNorms folded, any batch size
``int8``      ONNX graph → the same in 8 bits, calibrated; layers that hurt stay as they are
``verify``    the file against the network it came from: heatmaps, accuracy, speed
============  ======================================================================================

The file's metadata hold one JSON text under ``lgmpose``, the card: skeleton, input size, normalisation, codec, network,
weights and their hash, precision, and the file's own seal (``cards.seal``). ``runtimes`` opens such files.
"""

from lgmpose.inference.export.exporter import export

__all__ = ["export"]

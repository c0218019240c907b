"""``lgmpose export``: write a network as one file that runs without PyTorch.

===============  ===============================================================================
``exporter``     ``export()``: options → network → graph → file
``graph``        network → ONNX graph, BatchNorms folded, any batch size
``int8``         ONNX graph → the same in 8 bits
``graph_files``  what is exported, its card, and graphs as files
``edge_files``   network → file for ncnn, ExecuTorch or CoreML
``verify``       compare the file with the network: heatmaps, accuracy, speed
===============  ===============================================================================

The file's metadata hold a JSON text under ``lgmpose``, the card: skeleton, input size, normalisation, codec, network,
weights' hash, precision (``cards.ExportCard``). ``backends`` opens such files.
"""

from lgmpose.inference.export.exporter import export

__all__ = ["export"]

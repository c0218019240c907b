"""From a picture or video to joints and to scores: detectors, predictor, runtimes, evaluation, drawings, export.

Predict:

* ``predictor``: boxes to poses; ``backends``: the network behind it, in PyTorch, ONNX Runtime or OpenVINO.
* ``detectors``: find people in a picture. ``detections``: read boxes from a file.
* ``inputs``: check a picture and boxes. ``input_files``: list the files, cameras and addresses of a command.
* ``predict_files``: ``lgmpose predict``. ``outputs`` plans and writes its files, ``formats`` has the tables.
* ``video``, ``tracking``, ``window``: read and write videos, follow people through them, show pictures.
* ``drawing``: skeletons and heatmaps. ``side_by_side``: ``lgmpose compare``.

Evaluate:

* ``options``: the options of ``lgmpose eval`` and ``lgmpose export``.
* ``evaluate``: a network on a record set. ``evaluate_weights``: ``lgmpose eval``, which prints the figures.
* ``figures``: the figures with their conditions. ``top_down``: persons in COCO's results format.
* ``detector_figures``: how well a detector finds persons: ``lgmpose eval-detector``.
* ``other_boxes``: boxes of a detector, shifted boxes, or none.
* ``extremes``: draw the worst and the best predictions. ``timing``: time functions in turns.

``export`` writes and verifies exported files.
"""

"""From a picture or video to joints and to scores: detectors, predictor, runtimes, evaluation, drawings, export."""

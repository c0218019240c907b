"""From a picture to joints and to scores: predictor, runtimes, evaluation, drawings, export."""

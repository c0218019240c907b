"""Tasks of lesson 00: sides, peaks, points in crop and picture, shapes, scores, sizes, and two exercises."""

import numpy as np

from lgmpose.course.checks import compare, compare_prediction, task

BETWEEN_HW = np.array(  # the map of task 00.3
    [[0, 0, 0, 0, 0, 0, 0], [0, 0, 1, 2, 1, 0, 0], [0, 1, 3, 8, 6, 1, 0], [0, 0, 2, 5, 3, 0, 0], [0, 0, 0, 1, 0, 0, 0]]
)


@task(
    "00.1",
    "easy",
    way="Look at the legend: orange is the person's right arm. On which side of the picture does it end?",
)
def check_side(prediction) -> str:
    """The person in the drawing faces us, so the right hand is on the left of the picture."""
    return compare_prediction(prediction, "left", choices=("left", "right"))


@task("00.2", "easy")
def check_brightest(attempt) -> None:
    rng = np.random.default_rng(1)
    for H, W in ((4, 6), (12, 9), (5, 20)):
        heatmap_HW = rng.normal(0, 0.2, (H, W))
        row, column = int(rng.integers(H)), int(rng.integers(W))
        heatmap_HW[(row + 1) % H] = 0.5  # a row and a column of larger sums
        heatmap_HW[:, (column + 1) % W] = 0.5
        heatmap_HW[row, column] = 1.0
        compare(attempt(heatmap_HW), (column, row), f"called with a map of {H} rows and {W} columns")


@task(
    "00.3",
    "medium",
    way="The brightest pixel is x = 3, y = 2. Move each by a quarter towards the higher neighbour, then times 4.",
)
def check_quarter(prediction) -> str:
    row, column = np.unravel_index(BETWEEN_HW.argmax(), BETWEEN_HW.shape)
    x = column + 0.25 * np.sign(BETWEEN_HW[row, column + 1] - BETWEEN_HW[row, column - 1])
    y = row + 0.25 * np.sign(BETWEEN_HW[row + 1, column] - BETWEEN_HW[row - 1, column])
    return compare_prediction(prediction, (float(4 * x), float(4 * y)), unit="pixels")


@task("00.4", "easy")
def check_back_to_picture(attempt) -> None:
    for crop, corner, scale in (((40, 30), (210, 85), 0.5), ((32, 40), (84, 80), 2.0), ((8, 6), (0, 7), 0.8)):
        crop_xy, corner_xy = np.array(crop, float), np.array(corner, float)
        got = attempt(crop_xy, corner_xy, scale)
        compare(got, corner_xy + crop_xy / scale, f"called with {crop}, {corner} and the scale {scale}")


@task("00.5", "easy", way="The order is pictures, joints, rows, columns; rows and columns are a quarter of the crop's.")
def check_shape(prediction) -> str:
    return compare_prediction(prediction, (1, 17, 256 // 4, 192 // 4))


@task("00.6", "medium")
def check_person_score(attempt) -> None:
    for scores in ([0.9, 0.5, 0.1], [0.2, 0.21, 0.6, 0.0, 0.25], [0.1, 0.05]):
        trusted = [score for score in scores if score > 0.2]
        expected = sum(trusted) / len(trusted) if trusted else 0.0
        compare(attempt(np.array(scores)), expected, f"called with the scores {scores}")


@task("00.7", "easy", way="Divide the crop's 256 rows by the rows of stage 5.")
def check_stride(prediction) -> str:
    return compare_prediction(prediction, 256 // 8, unit="rows")


@task("00.8", "easy", way="Multiply the parameters of the paper's network by 4 bytes, and divide by a million.")
def check_megabytes(prediction) -> str:
    return compare_prediction(prediction, 1_054_929 * 4 / 1e6, rtol=0.02, unit="MB")


@task("00.9", "medium")
def check_found(attempt) -> None:
    rng = np.random.default_rng(3)
    for K, torso in ((12, 50.0), (17, 8.0), (5, 200.0)):
        true_K2 = rng.uniform(0, 300, (K, 2))
        angle_K = rng.uniform(0, 2 * np.pi, K)
        length_K = torso * rng.choice([0.05, 0.16, 0.19, 0.23, 0.6], K)
        predicted_K2 = true_K2 + length_K[:, None] * np.stack([np.cos(angle_K), np.sin(angle_K)], axis=1)
        visible_K = rng.random(K) < 0.7
        visible_K[0] = True
        expected = sum(length <= 0.2 * torso for length in length_K[visible_K]) / visible_K.sum()
        got = attempt(predicted_K2, true_K2, visible_K, torso)
        compare(got, float(expected), f"called with {K} joints and a torso of {torso:g} pixels")
    edge_K2 = np.array([[0.0, 10.0]])
    got = attempt(edge_K2, np.zeros((1, 2)), np.array([True]), 50.0)
    compare(got, 1.0, "called with one joint whose error is exactly a fifth of the torso")


@task("00.10", "hard")
def check_sharpness(attempt) -> None:
    for H, W in ((9, 7), (6, 11)):
        heatmap_HW = np.cos(np.arange(H * W)).reshape(H, W)
        row, column = H // 2, W // 2 + 1
        heatmap_HW[row, column] = 2.0
        case = f"called with np.cos(np.arange({H * W})).reshape({H}, {W}), and 2.0 at [{row}, {column}]"
        positive_HW = heatmap_HW.clip(0)
        around_HW = positive_HW[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
        compare(attempt(heatmap_HW), float(around_HW.sum() / positive_HW.sum()), case)
    corner_HW = np.zeros((5, 8), np.float32)
    corner_HW[0, 7], corner_HW[4, 0], corner_HW[2, 5] = 0.5, 0.25, 0.25
    compare(attempt(corner_HW), 0.75, "called with a peak in a corner of (5, 8)")

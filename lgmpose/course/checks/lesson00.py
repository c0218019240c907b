"""Tasks of lesson 00: sides, peaks, points in crop and picture, shapes, scores, sizes, and two exercises."""

import numpy as np

from lgmpose.course.checks import Task, compare, compare_prediction

BETWEEN_HW = np.array(  # the map of task 00.3
    [[0, 0, 0, 0, 0, 0, 0], [0, 0, 1, 2, 1, 0, 0], [0, 1, 3, 8, 6, 1, 0], [0, 0, 2, 5, 3, 0, 0], [0, 0, 0, 1, 0, 0, 0]]
)


def check_side(prediction) -> str:
    """The person in the drawing faces us, so the right hand is on the left of the picture."""
    return compare_prediction(prediction, "left")


def check_brightest(attempt) -> None:
    rng = np.random.default_rng(1)
    for H, W in ((4, 6), (12, 9), (5, 20)):
        heatmap_HW = rng.normal(0, 0.2, (H, W))
        row, column = int(rng.integers(H)), int(rng.integers(W))
        heatmap_HW[row, column] = 1.0
        compare(attempt(heatmap_HW), (column, row), f"called with a map of {H} rows and {W} columns")


def check_quarter(prediction) -> str:
    row, column = np.unravel_index(BETWEEN_HW.argmax(), BETWEEN_HW.shape)
    x = column + 0.25 * np.sign(BETWEEN_HW[row, column + 1] - BETWEEN_HW[row, column - 1])
    y = row + 0.25 * np.sign(BETWEEN_HW[row + 1, column] - BETWEEN_HW[row - 1, column])
    return compare_prediction(prediction, (float(4 * x), float(4 * y)), unit="pixels")


def check_back_to_picture(attempt) -> None:
    for crop, corner, scale in (((40, 30), (210, 85), 0.5), ((32, 40), (84, 80), 2.0), ((8, 6), (0, 7), 0.8)):
        crop_xy, corner_xy = np.array(crop, float), np.array(corner, float)
        got = attempt(crop_xy, corner_xy, scale)
        compare(got, corner_xy + crop_xy / scale, f"called with {crop}, {corner} and the scale {scale}")


def check_shape(prediction) -> str:
    return compare_prediction(prediction, (1, 17, 256 // 4, 192 // 4))


def check_person_score(attempt) -> None:
    for scores in ([0.9, 0.5, 0.1], [0.2, 0.21, 0.6, 0.0, 0.25], [0.1, 0.05]):
        trusted = [score for score in scores if score > 0.2]
        expected = sum(trusted) / len(trusted) if trusted else 0.0
        compare(attempt(np.array(scores)), expected, f"called with the scores {scores}")


def check_stride(prediction) -> str:
    return compare_prediction(prediction, 256 // 8, unit="rows")


def check_megabytes(prediction) -> str:
    return compare_prediction(prediction, 1_054_929 * 4 / 1e6, rtol=0.02, unit="MB")


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


def check_sharpness(attempt) -> None:
    rng = np.random.default_rng(0)
    for H, W in ((9, 7), (6, 11)):
        heatmap_HW = rng.normal(0.1, 0.3, (H, W)).astype(np.float32)
        row, column = H // 2, W // 2 + 1
        heatmap_HW[row, column] = 2.0
        positive_HW = heatmap_HW.clip(0)
        around_HW = positive_HW[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
        compare(attempt(heatmap_HW), float(around_HW.sum() / positive_HW.sum()), f"called with a random ({H}, {W})")
    corner_HW = np.zeros((5, 8), np.float32)
    corner_HW[0, 7], corner_HW[4, 0], corner_HW[2, 5] = 0.5, 0.25, 0.25
    compare(attempt(corner_HW), 0.75, "called with a peak in a corner of (5, 8)")


TASKS = {
    "00.1": Task(
        check_side, "easy",
        hints=(
            "Imagine that you are the person, and look out of the screen.",
            "The legend says which colour is the person's right arm. Where in the picture is the hand of that arm?",
            "A person who faces you has the right hand on your left.",
        ),
        way="Look at the legend: orange is the person's right arm. On which side of the picture does it end?",
    ),
    "00.2": Task(
        check_brightest, "easy",
        hints=(
            "`heatmap_HW.argmax()` numbers the pixels row by row: 0, 1, 2, and so on. Try it on the map above.",
            "With W columns, pixel number i is in row `i // W`, at column `i % W`. W is `heatmap_HW.shape[1]`.",
            "\"I pass no test\": a point is (x, y), so it is (column, row), not (row, column).",
        ),
    ),
    "00.3": Task(
        check_quarter, "medium",
        hints=(
            "Find the 8 first. Count its column and its row from 0.",
            "Its right neighbour is 6 and its left one is 3: x moves by a quarter. In which direction?",
            "Below it is 5, above it is 2: y moves towards the larger one. At the end, multiply both by 4.",
        ),
        way="The brightest pixel is x = 3, y = 2. Move each by a quarter towards the higher neighbour, then times 4.",
    ),
    "00.4": Task(
        check_back_to_picture, "easy",
        hints=(
            "On the way in: minus corner, then times scale. Which is undone first on the way back?",
            'The opposite of "times scale" is "divided by scale". The opposite of "minus corner" is "plus corner".',
            "Try it with the numbers above: (32, 40) must become (100, 100).",
        ),
    ),
    "00.5": Task(
        check_shape, "easy",
        hints=(
            "One picture is in the batch. There is one heatmap for each joint.",
            "A heatmap has a quarter of the rows and a quarter of the columns of the crop.",
            "256 / 4 = 64 rows. The same for the columns. The order is B, K, H, W.",
        ),
        way="The order is pictures, joints, rows, columns; rows and columns are a quarter of the crop's.",
    ),
    "00.6": Task(
        check_person_score, "medium",
        hints=(
            "`scores[scores > 0.2]` keeps the scores above 0.2.",
            "What is the mean of an empty array? Try it. That case needs an answer of its own.",
            "\"I pass tests 1 and 2 but fail test 3\": if no score is above 0.2, return 0.",
        ),
    ),
    "00.7": Task(
        check_stride, "easy",
        hints=(
            "The crop has 256 rows. Find stage 5 in the map: how many rows does its feature map have?",
            "Each row of stage 5 stands for an equal share of the 256 rows.",
            "It is 256 divided by 8.",
        ),
        way="Divide the crop's 256 rows by the rows of stage 5.",
    ),
    "00.8": Task(
        check_megabytes, "easy",
        hints=(
            "How many parameters does the second line print? Each takes 4 bytes.",
            "A megabyte is 1,000,000 bytes.",
            "About a million parameters times 4 bytes: a little more than 4 megabytes.",
        ),
        way="Multiply the parameters of the paper's network by 4 bytes, and divide by a million.",
    ),
    "00.9": Task(
        check_found, "medium",
        hints=(
            "`np.linalg.norm(predicted_K2 - true_K2, axis=1)` gives one distance for each joint.",
            "Compare with `0.2 * torso`. Exactly a fifth still counts as found, so use `<=`.",
            "\"My share is too low\": count only the joints with `visible_K`, and divide by their number, not by K.",
        ),
    ),
    "00.10": Task(
        check_sharpness, "hard",
        hints=(
            "Three steps: negative pixels to 0, the peak's row and column, two sums.",
            "`heatmap_HW[top:bottom, left:right]` is a square; 5×5 around row r is `r - 2 : r + 3`.",
            '"I pass tests 1 and 2, fail test 3": a start below 0 counts from the end. Use `max(0, r - 2)`.',
        ),
    ),
}  # fmt: skip

"""Poses: the angle of every joint, and which way a person faces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["ANGLES", "POSES", "Pose", "sample_pose"]

# Angles in degrees, all 0 when standing straight with the arms hanging. Flexion moves a limb forward (a knee back),
# abduction moves it sideways away from the body, twist turns it inwards about its own length.
# name: (lowest, highest), default: (mean of one side, mean of the other, deviation); trunk: (mean, deviation)
ANGLES: dict[str, tuple[tuple[float, float], tuple[float, ...]]] = {
    "shoulder_flex": ((-50, 180), (0, 0, 12)), "shoulder_abduct": ((-20, 180), (12, 12, 6)),
    "shoulder_twist": ((-95, 90), (15, 15, 20)), "elbow": ((0, 145), (18, 18, 12)),
    "hip_flex": ((-30, 125), (0, 0, 5)), "hip_abduct": ((-15, 70), (5, 5, 4)), "hip_twist": ((-40, 30), (-6, -6, 6)),
    "knee": ((0, 140), (4, 4, 4)), "ankle": ((-25, 50), (0, 0, 4)), "spine_flex": ((-25, 70), (3, 5)),
    "spine_side": ((-30, 30), (0, 5)), "spine_twist": ((-40, 40), (0, 8)), "neck_flex": ((-40, 45), (2, 9)),
    "neck_side": ((-30, 30), (0, 7)), "neck_twist": ((-60, 60), (0, 16)), "pitch": ((-30, 90), (0, 3)),
    "roll": ((-360, 360), (0, 5)),
}  # fmt: skip

# name: (weight, what differs from ANGLES). Which side is "one" and which "the other" is drawn at random.
POSES: dict[str, tuple[float, dict[str, tuple[float, ...]]]] = {
    "stand": (14, {}),
    "hands_on_hips": (6, {"shoulder_abduct": (45, 45, 5), "shoulder_twist": (82, 82, 4), "elbow": (92, 92, 6),
                          "shoulder_flex": (-8, -8, 5)}),
    "one_hand_on_hip": (6, {"shoulder_abduct": (45, 14, 5), "shoulder_twist": (82, 10, 6), "elbow": (92, 20, 6),
                            "hip_abduct": (10, 2, 4), "spine_side": (0, 9)}),
    "arms_crossed": (5, {"shoulder_flex": (36, 30, 5), "shoulder_abduct": (8, 8, 3), "shoulder_twist": (72, 66, 6),
                         "elbow": (105, 98, 6)}),
    "arms_up": (9, {"shoulder_abduct": (155, 155, 18), "shoulder_twist": (-20, -20, 15), "elbow": (20, 20, 16)}),
    "wave": (8, {"shoulder_abduct": (92, 12, 14), "shoulder_twist": (-88, 15, 6), "elbow": (85, 15, 25)}),
    "arms_out": (5, {"shoulder_abduct": (88, 88, 12), "elbow": (10, 10, 8), "hip_abduct": (14, 14, 7)}),
    "muscles": (3, {"shoulder_abduct": (85, 85, 8), "shoulder_twist": (-88, -88, 5), "elbow": (110, 110, 12)}),
    "walk": (12, {"shoulder_flex": (-26, 30, 8), "elbow": (22, 30, 10), "hip_flex": (28, -16, 7), "knee": (10, 22, 8),
                  "spine_twist": (0, 10)}),
    "run": (9, {"shoulder_flex": (-42, 48, 10), "elbow": (92, 96, 12), "hip_flex": (66, -18, 12),
                "knee": (82, 52, 20), "ankle": (5, 30, 8), "pitch": (13, 5)}),
    "star_jump": (6, {"shoulder_abduct": (132, 132, 20), "hip_abduct": (36, 36, 9), "elbow": (8, 8, 6),
                      "ankle": (28, 28, 10), "hip_twist": (-25, -25, 8)}),
    "tuck_jump": (4, {"shoulder_abduct": (110, 110, 28), "hip_flex": (85, 70, 15), "knee": (100, 90, 15),
                      "hip_abduct": (12, 12, 6), "ankle": (30, 30, 8)}),
    "sit": (10, {"shoulder_flex": (26, 26, 9), "elbow": (52, 52, 16), "shoulder_twist": (14, 14, 10),
                 "shoulder_abduct": (8, 8, 4), "hip_flex": (86, 86, 4), "knee": (84, 84, 8), "hip_abduct": (9, 9, 5)}),
    "squat": (5, {"shoulder_flex": (78, 78, 15), "hip_flex": (108, 108, 8), "knee": (118, 118, 8),
                  "hip_abduct": (20, 20, 6), "ankle": (-20, -20, 4), "pitch": (22, 5)}),
    "bend": (7, {"pitch": (42, 10), "spine_flex": (36, 12), "hip_flex": (44, 44, 5), "shoulder_flex": (75, 75, 18),
                 "elbow": (8, 8, 6), "neck_flex": (-8, 10)}),
    "lunge": (5, {"hip_flex": (78, -12, 7), "knee": (80, 28, 10), "ankle": (0, 25, 5),
                  "shoulder_abduct": (40, 70, 35)}),
    "kick": (5, {"hip_flex": (82, -6, 15), "knee": (12, 8, 9), "ankle": (30, 0, 8), "shoulder_flex": (-25, 50, 15),
                 "shoulder_abduct": (40, 40, 20), "pitch": (-10, 5)}),
    "dance": (10, {"shoulder_flex": (30, 30, 45), "shoulder_abduct": (60, 60, 45), "shoulder_twist": (0, 0, 40),
                   "elbow": (50, 50, 35), "hip_flex": (25, 5, 18), "hip_abduct": (12, 12, 10), "knee": (30, 15, 15),
                   "spine_side": (0, 12), "spine_twist": (0, 15)}),
    "cartwheel": (4, {"roll": (110, 45), "shoulder_abduct": (160, 160, 10), "hip_abduct": (50, 50, 9),
                      "ankle": (35, 35, 8), "elbow": (5, 5, 4), "hip_twist": (-25, -25, 8)}),
    "handstand": (4, {"roll": (180, 7), "shoulder_flex": (172, 172, 5), "shoulder_abduct": (6, 6, 4),
                      "hip_flex": (12, -4, 14), "knee": (12, 18, 14), "ankle": (35, 35, 8), "elbow": (4, 4, 3),
                      "neck_flex": (-20, 8)}),
}  # fmt: skip


@dataclass(frozen=True)
class Pose:
    """Angles, independent of the body that has them."""

    name: str
    angles: dict[str, float]  # degrees; those of limbs are prefixed by their side, as in ``left_elbow``
    yaw: float  # degrees: 0 faces the viewer, 90 the picture's right, 180 away


def sample_pose(rng: np.random.Generator) -> Pose:
    """Draw a pose: a name, angles around that pose's own and within their limits, and which way the person faces."""
    names = list(POSES)
    weights = np.array([POSES[name][0] for name in names], np.float64)
    name = names[rng.choice(len(names), p=weights / weights.sum())]
    one, other = ("left", "right") if rng.random() < 0.5 else ("right", "left")
    angles = {}
    for angle, (limits, default) in ANGLES.items():
        *means, deviation = POSES[name][1].get(angle, default)
        names_drawn = [angle] if len(means) == 1 else [f"{one}_{angle}", f"{other}_{angle}"]
        for drawn, mean in zip(names_drawn, means, strict=True):
            angles[drawn] = float(np.clip(rng.normal(mean, deviation), *limits))
    if one == "right":
        angles["roll"] = -angles["roll"]  # a cartwheel to either hand

    # A cartwheel turns in the image plane, so it is seen from the front or from behind.
    chances = (0.7, 0.3, 0, 0) if name == "cartwheel" else (0.48, 0.2, 0.16, 0.16)
    yaw, deviation = ((0, 24), (180, 24), (75, 22), (-75, 22))[rng.choice(4, p=chances)]
    return Pose(name, angles, float(rng.normal(yaw, deviation)))

"""Synthetic people: drawn, dressed and posed by the computer, with joints that are known exactly.

A person is built in three dimensions and drawn in two:

1. a *pose*: joint angles in degrees, drawn around one of the entries of ``_POSES`` and kept within ``_LIMITS``;
2. a *body*: forward kinematics turns angles into bone frames; every body part is the convex hull of a few spheres,
   which gives a believable outline from any side, and clothes are the same hulls, a little wider;
3. a *picture*: parts are sorted by depth and painted far to near, on a canvas twice the picture's size. Whatever is
   painted also writes its number into a map of the same size, so that afterwards the map tells which part is seen at
   a joint: its own limb (visible) or something in front of it (hidden).

Body coordinates are metres, x to the person's *own left*, y up, z forward. Camera coordinates are x right, y up, z
towards the viewer. Unturned, the person faces the viewer and both agree: the left hand is on the picture's right.
"""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from lgmpose.errors import UserError
from lgmpose.skeletons import COCO

__all__ = ["GENERATOR_VERSION", "draw_scene", "make_synthetic"]

GENERATOR_VERSION = 1  # raise whenever the same seed draws another picture
SUPERSAMPLING = 2  # canvas pixels per picture pixel and axis; averaging them smooths the edges
_OBSTACLE = 65535  # number in the part map of whatever hides people and is none
_PARTS = ("seat", "torso", "pelvis", "skirt", "neck", "head", "brim", "hair") + tuple(
    f"{side}_{part}"
    for side in ("left", "right")
    for part in ("ear", "upper_arm", "forearm", "hand", "thigh", "shin", "foot")
)
_PARTS_PER_PERSON = 32
_SIDES = (("left", 1.0), ("right", -1.0))
# Around the joint between these no outline is drawn, so that a bent limb is one piece and not a puppet's.
_JOINED = {
    "upper_arm": ("torso", "{side}_forearm"), "forearm": ("{side}_upper_arm", "{side}_hand"),
    "hand": ("{side}_forearm",), "thigh": ("{side}_shin", "pelvis"), "shin": ("{side}_thigh",),
    "pelvis": ("left_thigh", "right_thigh", "skirt", "torso"), "skirt": ("pelvis", "torso", "left_thigh"),
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- pose

# Angles in degrees, all 0 when standing straight with the arms hanging. Flexion moves a limb forward (a knee back),
# abduction moves it sideways away from the body, twist turns it inwards about its own length.
_LIMITS = {
    "shoulder_flex": (-50, 180), "shoulder_abduct": (-20, 180), "shoulder_twist": (-95, 90), "elbow": (0, 145),
    "hip_flex": (-30, 125), "hip_abduct": (-15, 70), "hip_twist": (-40, 30), "knee": (0, 140), "ankle": (-25, 50),
    "spine_flex": (-25, 70), "spine_side": (-30, 30), "spine_twist": (-40, 40), "neck_flex": (-40, 45),
    "neck_side": (-30, 30), "neck_twist": (-60, 60), "pitch": (-30, 90), "roll": (-360, 360),
}  # fmt: skip
_TRUNK = ("spine_flex", "spine_side", "spine_twist", "neck_flex", "neck_side", "neck_twist", "pitch", "roll")

# Where a pose says nothing: (mean, standard deviation), for limbs (mean of one side, of the other, standard deviation).
_DEFAULTS = {
    "shoulder_flex": (0, 0, 12), "shoulder_abduct": (12, 12, 6), "shoulder_twist": (15, 15, 20), "elbow": (18, 18, 12),
    "hip_flex": (0, 0, 5), "hip_abduct": (5, 5, 4), "hip_twist": (-6, -6, 6), "knee": (4, 4, 4), "ankle": (0, 0, 4),
    "spine_flex": (3, 5), "spine_side": (0, 5), "spine_twist": (0, 8), "neck_flex": (2, 9), "neck_side": (0, 7),
    "neck_twist": (0, 16), "pitch": (0, 3), "roll": (0, 5),
}  # fmt: skip

# name: (how often, what differs from the defaults). Which side is "one" and which "the other" is drawn at random.
_POSES = {
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


def _sample_pose(rng: np.random.Generator) -> tuple[str, dict[str, float]]:
    """Draws a pose: its name and its angles in degrees (``left_elbow``, …, ``spine_flex``, …), within ``_LIMITS``."""
    names = list(_POSES)
    weights = np.array([_POSES[name][0] for name in names], np.float64)
    name = names[rng.choice(len(names), p=weights / weights.sum())]
    one, other = ("left", "right") if rng.random() < 0.5 else ("right", "left")
    angles = {}
    for angle, values in (_DEFAULTS | _POSES[name][1]).items():
        low, high = _LIMITS[angle]
        if angle in _TRUNK:
            angles[angle] = float(np.clip(rng.normal(*values), low, high))
        else:
            for side, mean in ((one, values[0]), (other, values[1])):
                angles[f"{side}_{angle}"] = float(np.clip(rng.normal(mean, values[2]), low, high))
    if one == "right":
        angles["roll"] = -angles["roll"]  # a cartwheel to either hand
    return name, angles


def _sample_yaw(rng: np.random.Generator, pose: str) -> float:
    """Draws which way a person faces, in degrees: 0 the viewer, 90 the picture's right, 180 away."""
    # A cartwheel turns in the picture's plane, so it is seen from the front or from behind.
    chances = (0.7, 0.3, 0, 0) if pose == "cartwheel" else (0.48, 0.2, 0.16, 0.16)
    mean, deviation = ((0, 24), (180, 24), (75, 22), (-75, 22))[rng.choice(4, p=chances)]
    return float(rng.normal(mean, deviation))


# ---------------------------------------------------------------------------------------------------------------- body


def _turn(axis: int, degrees: float) -> np.ndarray:
    """(3, 3) right-handed rotation about x (0), y (1) or z (2)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = ((1, 2), (2, 0), (0, 1))[axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


@dataclass(frozen=True)
class _Frame:
    """A bone: where it starts and how it is turned. Local coordinates are those of the unturned body."""

    origin: np.ndarray  # (3,) m, camera coordinates
    rotation: np.ndarray  # (3, 3) local → camera

    def at(self, x: float, y: float, z: float) -> np.ndarray:
        return self.origin + self.rotation @ np.array((x, y, z))

    def child(self, x: float, y: float, z: float, rotation: np.ndarray) -> _Frame:
        return _Frame(self.at(x, y, z), self.rotation @ rotation)

    def spheres(self, *xyzr: tuple[float, float, float, float]) -> np.ndarray:
        """(N, 4) spheres in camera coordinates from local centres and radii, in metres."""
        local = np.array(xyzr, np.float64)
        return np.concatenate((self.origin + local[:, :3] @ self.rotation.T, local[:, 3:]), axis=1)


@dataclass(frozen=True)
class _Paint:
    """Two colours and how they alternate over a part."""

    color: tuple[int, int, int]
    second: tuple[int, int, int] = (0, 0, 0)
    pattern: str = "plain"
    period: float = 0.06  # metres
    flat: bool = False  # neither shading nor outline: for small things such as pupils

    @functools.cached_property
    def shades(self) -> np.ndarray:
        """(2, 256, 3) uint8: both colours under every brightness; shadows turn a little towards blue."""
        brightness = np.arange(256, dtype=np.float64)[:, None] / 225
        colors = np.array((self.color, self.second), np.float64)[:, None]
        return np.clip(colors * brightness ** np.array((1.08, 1.02, 0.88)), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class _Layer:
    """One convex hull of spheres in one paint. ``cap`` keeps only the side of the first sphere that looks that way."""

    spheres: np.ndarray  # (N, 4): x, y, z, radius in m, camera coordinates
    paint: _Paint
    cap: tuple[float, float, float, float] | None = None  # unit direction and the least cosine with it


@dataclass(frozen=True)
class _Part:
    """A body part: layers painted one over the other (skin, then sleeve) under one number in the part map."""

    name: str
    layers: list[_Layer]
    depth: float  # m towards the viewer, with the bias that decides between parts as good as level


@dataclass(frozen=True)
class _Person:
    """A posed and dressed body, the hips at the origin, not yet placed in a picture."""

    pose: str
    joints: np.ndarray  # (17, 3) m, camera coordinates, COCO order
    faces_camera: np.ndarray  # (17,) bool, False where the joint lies on the far side of its own head or trunk
    parts: list[_Part]


_SKINS = ((255, 219, 188), (241, 194, 150), (226, 172, 125), (198, 134, 92), (150, 98, 66), (108, 70, 50), (84, 54, 40))
_HAIRS = ((38, 28, 24), (66, 44, 30), (104, 66, 36), (150, 98, 50), (206, 166, 96), (160, 70, 34), (150, 150, 152))


def _bright(
    rng: np.random.Generator, saturation=(0.15, 0.85), value=(0.25, 0.95), hue=(0.0, 6.0)
) -> tuple[int, int, int]:
    """A random RGB colour; hue runs from 0 (red) over 2 (green) and 4 (blue) to 6 (red)."""
    hue, s, v = rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value)
    wheel = np.clip(np.abs((hue + np.array((0, 4, 2))) % 6 - 3) - 1, 0, 1)
    return tuple(int(c) for c in 255 * v * (1 - s + s * wheel))


def _sample_clothes(rng: np.random.Generator, upright: bool) -> dict:
    """Draws skin, hair, garments and their colours. Skirts only where gravity holds them where they are drawn."""
    patterns = ("plain", "stripes", "pinstripes", "checks", "dots", "blocks")
    pattern = patterns[rng.choice(6, p=(0.4, 0.25, 0.08, 0.1, 0.09, 0.08))]
    unlike_skin = (1.3, 5.9)  # no orange: nobody should look undressed
    shirt = _Paint(_bright(rng, hue=unlike_skin), _bright(rng), pattern, float(rng.uniform(0.04, 0.1)))
    trousers = _Paint(_bright(rng, (0.05, 0.7), (0.15, 0.8), unlike_skin))
    legs = ("trousers", "shorts", "skirt")[rng.choice(3, p=(0.55, 0.28, 0.17) if upright else (0.65, 0.35, 0))]
    if legs == "skirt" and rng.random() < 0.4:
        trousers = shirt  # a dress
    shoe = _bright(rng, (0, 0.8), (0.1, 0.95))
    return {
        "skin": _Paint(_SKINS[rng.integers(len(_SKINS))]),
        "hair": _Paint(_HAIRS[rng.integers(len(_HAIRS))]),
        "hair_style": ("short", "long", "bun", "hat", "bald")[rng.choice(5, p=(0.42, 0.26, 0.12, 0.14, 0.06))],
        "hairline": float(rng.uniform(-0.36, -0.14)),
        "shirt": shirt,
        "sleeves": ("short", "long", "none")[rng.choice(3, p=(0.5, 0.38, 0.12))],
        "trousers": trousers,
        "legs": legs,
        "hem": float(rng.uniform(0.45, 0.85)),  # of shorts and skirts, as a fraction of the thigh
        "width": float(rng.uniform(0.008, 0.026)),  # how loosely clothes sit, m
        "shoe": _Paint(shoe),
        "sole": _Paint((236, 234, 228) if rng.random() < 0.7 else (40, 38, 40), flat=True),
        "hat": _Paint(_bright(rng, (0.3, 0.9), (0.3, 0.95))),
    }


def _build_person(rng: np.random.Generator, pose: str, angles: dict[str, float], yaw: float) -> _Person:
    """Poses and dresses a body of random build.

    Args:
        rng: draws build and clothes.
        pose: the pose's name; sitting people get a seat.
        angles: degrees, as from ``_sample_pose``.
        yaw: degrees, as from ``_sample_yaw``.
    """
    wear = _sample_clothes(rng, upright=abs(angles["roll"]) < 40)
    skin, shirt, loose = wear["skin"], wear["shirt"], wear["width"]
    girth, head_scale, leg_scale = rng.uniform(0.88, 1.22), rng.uniform(1.06, 1.32), rng.uniform(0.93, 1.05)
    shoulder_x, hip_x = rng.uniform(0.16, 0.19), rng.uniform(0.085, 0.1)

    tilt = rng.normal(4, 5)  # the camera looks down a little
    root = _turn(2, angles["roll"]) @ _turn(0, tilt) @ _turn(1, yaw)
    pelvis = _Frame(np.zeros(3), root @ _turn(0, angles["pitch"]))
    spine = [_turn(1, angles["spine_twist"]), _turn(2, angles["spine_side"]), _turn(0, angles["spine_flex"])]
    chest = pelvis.child(0, 0.12, 0, spine[0] @ spine[1] @ spine[2])
    nod = _turn(1, angles["neck_twist"]) @ _turn(2, angles["neck_side"]) @ _turn(0, angles["neck_flex"])
    head = chest.child(0, 0.445, 0.012, nod)

    parts: list[_Part] = []

    def add(name: str, bias: float, *layers: _Layer) -> None:
        parts.append(_Part(name, list(layers), float(np.mean(layers[0].spheres[:, 2])) + bias))

    def limb(start: np.ndarray, end: np.ndarray, *stations: tuple[float, float], extra: float = 0.0) -> np.ndarray:
        """Spheres along a bone; stations are (fraction of the length, radius in m)."""
        return np.array([(*(start + t * (end - start)), radius * girth + extra) for t, radius in stations])

    # Trunk. The shirt reaches over the hips' upper half, so that it hides its own seam with the trousers.
    g = girth
    add("pelvis", 0.0, _Layer(pelvis.spheres(
        (0.052, 0.11, 0, 0.08 * g), (-0.052, 0.11, 0, 0.08 * g),
        (hip_x * 0.72, 0, -0.012, 0.092 * g), (-hip_x * 0.72, 0, -0.012, 0.092 * g)), wear["trousers"]))  # fmt: skip
    trunk = np.concatenate((
        chest.spheres((0, 0.385, 0, 0.045),
                      (shoulder_x * 0.86, 0.34, -0.005, 0.058), (-shoulder_x * 0.86, 0.34, -0.005, 0.058),
                      (0.07, 0.21, 0.016, 0.085 * g), (-0.07, 0.21, 0.016, 0.085 * g)),
        pelvis.spheres((0.056, 0.06, 0, 0.083 * g + loose), (-0.056, 0.06, 0, 0.083 * g + loose)),
    ))  # fmt: skip
    add("torso", 0.07, _Layer(trunk, shirt))

    # Head: a big sphere for the skull, a small one for the jaw, features on the skull's surface.
    k = head_scale

    def on_head(*xyzr: tuple[float, float, float, float]) -> np.ndarray:
        return head.spheres(*((x * k, y * k, z * k, r * k) for x, y, z, r in xyzr))

    def looks_at_camera(x: float, y: float, z: float) -> float:
        return float((head.rotation @ np.array((x, y, z)))[2])

    head_layers = [_Layer(on_head((0, 0.1, 0.012, 0.105), (0, 0.025, 0.036, 0.066)), skin)]
    style = wear["hair_style"]
    if style != "bald":
        back = head.rotation @ np.array((0, 0.55, -0.835))
        head_layers.append(_Layer(on_head((0, 0.104, 0.004, 0.113)), wear["hair"], cap=(*back, wear["hairline"])))
    if style == "hat":
        up = head.rotation @ np.array((0, 0.97, -0.24))
        head_layers.append(_Layer(on_head((0, 0.106, 0.004, 0.116)), wear["hat"], cap=(*up, 0.2)))
    white, pupil = _Paint((250, 250, 248), flat=True), _Paint((36, 26, 24), flat=True)
    dark_skin = _Paint(tuple(int(c * 0.72) for c in skin.color), flat=True)
    for x in (1, -1):
        if looks_at_camera(0.36 * x, -0.1, 0.93) > 0.12:
            head_layers += [
                _Layer(on_head((0.034 * x, 0.086, 0.104, 0.0145), (0.042 * x, 0.086, 0.101, 0.0125)), white),
                _Layer(on_head((0.038 * x, 0.085, 0.108, 0.0105)), pupil),
                _Layer(on_head((0.026 * x, 0.113, 0.108, 0.004), (0.053 * x, 0.112, 0.097, 0.004)), wear["hair"]),
            ]
    if looks_at_camera(0, 0, 1) > 0.1:
        smile = rng.uniform(0.002, 0.012)
        mouth = on_head((0.024, 0.02, 0.094, 0.004), (-0.024, 0.02, 0.094, 0.004), (0, 0.02 - smile, 0.1, 0.006))
        head_layers.append(_Layer(mouth, _Paint((150, 58, 58), flat=True)))
    head_depth = float(head_layers[0].spheres[:, 2].mean()) + 0.07
    nose = on_head((0, 0.05, 0.118, 0.0145), (0, 0.078, 0.104, 0.008))
    nose_layers = [_Layer(nose, dark_skin), _Layer(on_head((0, 0.053, 0.121, 0.0115)), skin)]
    turned_away = looks_at_camera(0, 0, 1) < 0
    head_layers = nose_layers + head_layers if turned_away else head_layers + nose_layers
    parts.append(_Part("head", head_layers, head_depth))
    if style == "hat":
        brim = on_head((0.07, 0.142, 0.08, 0.01), (-0.07, 0.142, 0.08, 0.01), (0, 0.146, 0.17, 0.012))
        before = 0.002 if looks_at_camera(0, 0, 1) > -0.1 else -0.002
        parts.append(_Part("brim", [_Layer(brim, wear["hat"])], head_depth + before))
    neck = np.concatenate((chest.spheres((0, 0.35, -0.005, 0.05)), on_head((0, 0.02, 0, 0.04))))
    add("neck", 0.04, _Layer(neck, skin))
    parts[-1] = replace(parts[-1], depth=min(parts[-1].depth, head_depth - 0.01))  # the chin covers the neck
    for side, sign in _SIDES:
        # Ears stick out: one is hidden only when the head is turned well away from it.
        near = looks_at_camera(sign, 0, 0.1) > -0.25
        ear = on_head((0.103 * sign, 0.083, 0, 0.021), (0.1 * sign, 0.06, 0.004, 0.014))
        inner = on_head((0.11 * sign, 0.078, 0.004, 0.01))
        layers = [_Layer(ear, skin)] + ([_Layer(inner, dark_skin)] if looks_at_camera(sign, 0, 0) > 0.3 else [])
        parts.append(_Part(f"{side}_ear", layers, head_depth + (0.001 if near else -0.001)))
    if style == "long":
        strands = on_head((0, 0.11, -0.035, 0.1), (0, -0.02, -0.05, 0.088), (0, -0.13, -0.07, 0.066))
        add("hair", 0.01, _Layer(strands, wear["hair"]))
    elif style == "bun":
        add("hair", 0.04, _Layer(on_head((0, 0.16, -0.13, 0.05)), wear["hair"]))

    joints = {
        "nose": on_head((0, 0.052, 0.122, 0))[0, :3],
        **{f"{side}_eye": on_head((0.038 * sign, 0.085, 0.106, 0))[0, :3] for side, sign in _SIDES},
        **{f"{side}_ear": on_head((0.104 * sign, 0.076, 0.002, 0))[0, :3] for side, sign in _SIDES},
    }
    faces = {"nose": looks_at_camera(0, 0, 1) > -0.2}
    thighs = {}
    for side, sign in _SIDES:
        faces[f"{side}_eye"] = looks_at_camera(0.36 * sign, -0.1, 0.93) > 0.02
        faces[f"{side}_ear"] = True  # an ear is a part of its own: the part map decides

        def of(angle: str, side: str = side) -> float:
            return angles[f"{side}_{angle}"]

        # Arm.
        raised = max(of("shoulder_abduct"), of("shoulder_flex")) / 180
        reach = _turn(2, sign * of("shoulder_abduct")) @ _turn(0, -of("shoulder_flex"))
        upper = chest.child(
            sign * shoulder_x, 0.335 + 0.035 * raised, 0, reach @ _turn(1, -sign * of("shoulder_twist"))
        )
        fore = upper.child(0, -0.285, 0, _turn(0, -of("elbow")))
        shoulder, elbow, wrist = upper.origin, fore.origin, fore.at(0, -0.25, 0)
        upper_shape, fore_shape = ((0, 0.05), (0.35, 0.047), (1, 0.037)), ((0, 0.037), (0.25, 0.04), (1, 0.027))
        layers = [_Layer(limb(shoulder, elbow, *upper_shape), skin)]
        if wear["sleeves"] == "short":
            layers.append(_Layer(limb(shoulder, elbow, (0, 0.05), (0.62, 0.047), extra=loose), shirt))
        elif wear["sleeves"] == "long":
            layers = [_Layer(limb(shoulder, elbow, *upper_shape, extra=loose * 0.8), shirt)]
        add(f"{side}_upper_arm", 0.09, *layers)
        layers = [_Layer(limb(elbow, wrist, *fore_shape), skin)]
        if wear["sleeves"] == "long":
            layers = [_Layer(limb(elbow, wrist, (0, 0.037), (0.25, 0.04), (0.93, 0.029), extra=loose * 0.8), shirt)]
        add(f"{side}_forearm", 0.1, *layers)
        palm = fore.spheres((0, -0.265, 0, 0.03), (0, -0.3, 0, 0.034), (0, -0.35, 0.004, 0.022))
        thumb = fore.spheres((0, -0.275, 0.015, 0.016), (-0.012 * sign, -0.315, 0.045, 0.012))
        add(f"{side}_hand", 0.101, _Layer(palm, skin), _Layer(thumb, skin))

        # Leg.
        swing = _turn(2, sign * of("hip_abduct")) @ _turn(0, -of("hip_flex")) @ _turn(1, -sign * of("hip_twist"))
        thigh = pelvis.child(sign * hip_x, 0, 0, swing)
        shin = thigh.child(0, -0.42 * leg_scale, 0, _turn(0, of("knee")))
        foot = shin.child(0, -0.41 * leg_scale, 0, _turn(0, of("ankle")))
        hip, knee, ankle = thigh.origin, shin.origin, foot.origin
        thighs[side] = (hip, knee)
        thigh_shape = ((0, 0.08), (0.3, 0.076), (1, 0.05))
        shin_shape = ((0, 0.049), (0.28, 0.053), (1, 0.032))
        thigh_layers = [_Layer(limb(hip, knee, *thigh_shape), skin)]
        shin_layers = [_Layer(limb(knee, ankle, *shin_shape), skin)]
        if wear["legs"] == "trousers":
            thigh_layers = [_Layer(limb(hip, knee, *thigh_shape, extra=loose * 0.6), wear["trousers"])]
            cuff = ((0, 0.049), (0.28, 0.053), (0.93, 0.034))
            shin_layers.append(_Layer(limb(knee, ankle, *cuff, extra=loose * 0.6), wear["trousers"]))
        elif wear["legs"] == "shorts":
            short = limb(hip, knee, (0, 0.08), (0.25, 0.078), (wear["hem"] - 0.08, 0.066), extra=loose)
            thigh_layers.append(_Layer(short, wear["trousers"]))
        add(f"{side}_thigh", -0.09, *thigh_layers)
        add(f"{side}_shin", -0.03, *shin_layers)
        shoe = foot.spheres((0, -0.012, -0.008, 0.038), (0, -0.045, -0.03, 0.032), (0.004 * sign, -0.052, 0.13, 0.027))
        sole = foot.spheres((0, -0.075, -0.035, 0.008), (0.004 * sign, -0.075, 0.135, 0.008))
        add(f"{side}_foot", -0.025, _Layer(shoe, wear["shoe"]), _Layer(sole, wear["sole"]))

        joints |= {f"{side}_shoulder": shoulder, f"{side}_elbow": elbow, f"{side}_wrist": wrist}
        joints |= {f"{side}_hip": hip, f"{side}_knee": knee, f"{side}_ankle": ankle}
        faces[f"{side}_shoulder"] = shoulder[2] > chest.at(0, 0.335, 0)[2] - 0.09
        faces[f"{side}_hip"] = hip[2] > -0.055

    if wear["legs"] == "skirt":
        waist = pelvis.spheres((0.052, 0.1, 0, 0.082 * g), (-0.052, 0.1, 0, 0.082 * g))
        hems = [limb(*thighs[side], (0, 0.086), (wear["hem"], 0.085), extra=loose) for side, _ in _SIDES]
        below = max(part.depth for part in parts if part.name.endswith("thigh") or part.name == "pelvis")
        parts.append(_Part("skirt", [_Layer(np.concatenate((waist, *hems)), wear["trousers"])], below + 0.002))
    if pose == "sit":
        half, low = 0.2, -0.12 - 0.33 * leg_scale
        corners = [(x, y, z, 0.006) for x in (-half, half) for y in (-0.09, low) for z in (-0.22, 0.2)]
        seat = _Frame(np.zeros(3), root).spheres(*corners)
        parts.append(_Part("seat", [_Layer(seat, _Paint(_bright(rng)))], -1e9))

    names = COCO.joint_names
    faces_camera = np.array([bool(faces.get(name, True)) for name in names])
    return _Person(pose, np.array([joints[name] for name in names]), faces_camera, parts)


# ------------------------------------------------------------------------------------------------------------- picture

_CAMERA_DISTANCE = 5.0  # m; what is nearer to the viewer is drawn a little larger
_CIRCLE = np.stack((np.cos(np.linspace(0, 2 * np.pi, 24)), np.sin(np.linspace(0, 2 * np.pi, 24))), axis=1)


def _project(points: np.ndarray, scale: float, origin_xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Camera coordinates (N, 3+) in metres → pixels (N, 2) and pixels per metre (N,), in weak perspective."""
    pixels_per_metre = scale * _CAMERA_DISTANCE / (_CAMERA_DISTANCE - points[:, 2])
    xy = origin_xy + pixels_per_metre[:, None] * points[:, :2] * np.array((1, -1))
    return xy, pixels_per_metre


def _hull(xy: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Convex hull of circles: (M, 2) int32 pixels."""
    points = (xy[:, None] + np.maximum(radius, 0.6)[:, None, None] * _CIRCLE).reshape(-1, 2)
    return cv2.convexHull(np.rint(points).astype(np.int32))[:, 0]


def _pattern(paint: _Paint, x: np.ndarray, y: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Which of the two colours each pixel takes: (h, w) intp of 0 and 1. x (w,) and y (h,) are metres."""
    along = (y[:, None] * axis[1] + x[None] * axis[0]) / paint.period
    across = (x[None] * axis[1] - y[:, None] * axis[0]) / paint.period
    if paint.pattern == "stripes":
        second = along % 1 < 0.45
    elif paint.pattern == "pinstripes":
        second = across % 1 < 0.3
    elif paint.pattern == "checks":
        second = (along % 1 < 0.5) ^ (across % 1 < 0.5)
    elif paint.pattern == "dots":
        second = (along % 1 - 0.5) ** 2 + (across % 1 - 0.5) ** 2 < 0.07
    else:  # blocks: two broad fields
        second = along % 4 < 2
    return second.astype(np.intp)


def _paint_layer(
    canvas: np.ndarray,
    part_map: np.ndarray,
    layer: _Layer,
    number: int,
    scale: float,
    origin_xy: np.ndarray,
    light_xy: np.ndarray,
    joined: tuple[int, ...] = (),
) -> np.ndarray:
    """Paints one layer and writes ``number`` into the part map wherever it paints.

    Args:
        canvas: (h, w, 3) uint8, changed in place.
        part_map: (h, w) uint16, changed in place.
        layer: what to paint.
        number: which part of which person.
        scale: canvas pixels per metre.
        origin_xy: (2,) where the hips lie on the canvas.
        light_xy: (2,) unit vector towards the light, canvas axes.
        joined: numbers of parts that this one grows out of, over which it has no outline.

    Returns:
        (2, 2) smallest and largest x and y painted, whether or not on the canvas.
    """
    xy, pixels_per_metre = _project(layer.spheres, scale, origin_xy)
    radius = layer.spheres[:, 3] * pixels_per_metre
    hull = _hull(xy, radius)
    extent = np.stack((hull.min(0), hull.max(0)))
    height, width = part_map.shape
    (x0, y0), (x1, y1) = extent.tolist()
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1 + 1, width), min(y1 + 1, height)
    if x1 <= x0 or y1 <= y0:
        return extent
    corner = np.array((x0, y0))
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillConvexPoly(mask, (hull - corner).astype(np.int32), 1)
    if layer.cap is not None:
        u = (np.arange(x0, x1)[None] - xy[0, 0]) / radius[0]
        v = (np.arange(y0, y1)[:, None] - xy[0, 1]) / -radius[0]
        cosine = u * layer.cap[0] + v * layer.cap[1] + np.sqrt(np.maximum(1 - u * u - v * v, 0)) * layer.cap[2]
        mask *= cosine > layer.cap[3]

    shade = np.full(mask.shape, 225, np.uint8)
    if not layer.paint.flat:
        # A dim rim, a lit middle moved towards the light, a soft blur between; then the outline.
        shade[:] = 165
        for brightness, shrink in ((205, 0.86), (232, 0.62), (252, 0.3)):
            lit = _hull(xy + light_xy * (radius * (1 - shrink) * 0.55)[:, None], radius * shrink)
            cv2.fillConvexPoly(shade, (lit - corner).astype(np.int32), brightness)
        blur = 2 * int(radius.mean() * 0.12) + 1
        shade = cv2.blur(shade, (blur, blur))
        outline = max(1, round(scale * 0.007))
        soft = np.maximum(shade, 190)
        cv2.polylines(shade, [(hull - corner).astype(np.int32)], True, 88, outline)
        if joined:
            seam = np.zeros_like(mask)
            for end in range(len(xy)):
                cv2.circle(seam, np.rint(xy[end] - corner).astype(int).tolist(), int(radius[end] * 1.3), 1, -1)
            below = part_map[y0:y1, x0:x1]
            seam &= functools.reduce(np.bitwise_or, [below == neighbour for neighbour in joined])
            cv2.copyTo(soft, seam, shade)
    shades = layer.paint.shades
    if layer.paint.pattern == "plain":
        colors = np.take(shades[0], shade, axis=0)
    else:
        axis = xy[-1] - xy[0]
        axis = axis / max(np.hypot(*axis), 1e-6)
        x, y = (np.arange(x0, x1) - xy[0, 0]) / scale, (np.arange(y0, y1) - xy[0, 1]) / scale
        colors = shades[_pattern(layer.paint, x, y, axis), shade]
    cv2.copyTo(colors, mask, canvas[y0:y1, x0:x1])
    np.copyto(part_map[y0:y1, x0:x1], number, where=mask.view(bool))
    return extent


def _paint_person(
    canvas: np.ndarray,
    part_map: np.ndarray,
    person: _Person,
    first_number: int,
    scale: float,
    hips_xy: np.ndarray,
    light_xy: np.ndarray,
) -> np.ndarray:
    """Paints a person's parts far to near.

    Args:
        canvas: (h, w, 3) uint8, changed in place.
        part_map: (h, w) uint16, changed in place; part p of ``_PARTS`` gets ``first_number + p``.
        person: whom to paint.
        first_number: see ``part_map``.
        scale: picture pixels per metre.
        hips_xy: (2,) picture pixels.
        light_xy: (2,) unit vector towards the light, canvas axes.

    Returns:
        (2, 2) smallest and largest x and y of the silhouette in picture pixels, seen or not.
    """
    half = (SUPERSAMPLING - 1) / 2  # pixel centres: picture p is canvas 2 p + 0.5
    extents = []
    for part in sorted(person.parts, key=lambda part: part.depth):
        number = _OBSTACLE if part.name == "seat" else first_number + _PARTS.index(part.name)
        side, _, limb = part.name.partition("_")
        neighbours = _JOINED.get(limb or side, ())
        joined = tuple(first_number + _PARTS.index(name.format(side=side)) for name in neighbours)
        for layer in part.layers:
            where = scale * SUPERSAMPLING, hips_xy * SUPERSAMPLING + half
            extent = _paint_layer(canvas, part_map, layer, number, *where, light_xy, joined)
            if part.name != "seat":
                extents.append(extent)
    low, high = np.min(extents, axis=0)[0], np.max(extents, axis=0)[1]
    return (np.stack((low, high)) - half) / SUPERSAMPLING


def _own_parts() -> np.ndarray:
    """Through which parts a joint counts as seen: (2, 17, 32) bool, first for joints turned away from the viewer.

    Through the limb itself a joint is seen from any side, through trunk and head only if it faces the viewer.
    """
    limbs = {"elbow": ("upper_arm", "forearm"), "wrist": ("forearm", "hand"), "ankle": ("shin", "foot"),
             "shoulder": ("upper_arm",), "hip": ("thigh",), "knee": ("thigh", "shin"), "ear": ("ear",)}  # fmt: skip
    middle = {"shoulder": ("torso",), "hip": ("torso", "pelvis", "skirt"), "nose": ("head",), "eye": ("head",)}
    table = np.zeros((2, len(COCO.joint_names), _PARTS_PER_PERSON), bool)
    for joint, name in enumerate(COCO.joint_names):
        side, _, kind = name.rpartition("_")
        for part in limbs.get(kind, ()):
            table[:, joint, _PARTS.index(f"{side}_{part}")] = True
        for part in middle.get(kind, ()):
            table[1, joint, _PARTS.index(part)] = True
        if kind == "knee":
            table[:, joint, _PARTS.index("skirt")] = True  # as with trousers: the cloth shows where it is
    return table


_OWN_PARTS = _own_parts()


def _visibility(
    part_map: np.ndarray, joints_xy: np.ndarray, first_number: int, faces_camera: np.ndarray, image_hw: tuple[int, int]
) -> np.ndarray:
    """COCO's flag per joint, from who owns the pixels around it.

    Args:
        part_map: (h, w) uint16 of the canvas.
        joints_xy: (17, 2) picture pixels.
        first_number: the person's part 0 in the map.
        faces_camera: (17,) bool; False hides a joint that lies behind the head or trunk it belongs to.
        image_hw: of the picture.

    Returns:
        (17,) int64: 0 outside the picture, 1 hidden, 2 visible.
    """
    height, width = image_hw
    flags = np.zeros(len(joints_xy), np.int64)
    for joint, (x, y) in enumerate(joints_xy):
        if not (0 <= x <= width - 1 and 0 <= y <= height - 1):
            continue
        column, row = (int(round(v * SUPERSAMPLING + (SUPERSAMPLING - 1) / 2)) for v in (x, y))
        window = part_map[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        parts = window[window > 0].astype(np.int64) - first_number
        parts = np.where((parts >= 0) & (parts < _PARTS_PER_PERSON), parts, _PARTS_PER_PERSON - 1)  # 31: not the own
        own = _OWN_PARTS[int(faces_camera[joint]), joint, parts]
        flags[joint] = 2 if own.any() and 2 * own.sum() >= own.size else 1
    return flags


def _mix(image: np.ndarray, other: np.ndarray, amount: np.ndarray | float) -> np.ndarray:
    return (image + (other - image) * amount).astype(np.float32, copy=False)


def _draw_background(rng: np.random.Generator, image_hw: tuple[int, int]) -> np.ndarray:
    """Something behind the people: a room, a landscape or a texture, with things in it that resemble limbs and heads.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = image_hw
    size = max(height, width)
    x, y = np.arange(width, dtype=np.float32)[None] / size, np.arange(height, dtype=np.float32)[:, None] / size

    def color(saturation=(0.05, 0.55), value=(0.35, 0.95)) -> np.ndarray:
        return np.array(_bright(rng, saturation, value), np.float32)

    def ramp(degrees: float) -> np.ndarray:
        t = x * np.float32(np.cos(np.radians(degrees))) + y * np.float32(np.sin(np.radians(degrees)))
        return ((t - t.min()) / max(float(np.ptp(t)), 1e-6))[..., None]

    def noise(cells: int) -> np.ndarray:
        grid = rng.normal(0, 1, (max(2, height * cells // size + 1), cells + 1)).astype(np.float32)
        return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]

    def spot() -> tuple[int, int]:
        return int(rng.uniform(0, width)), int(rng.uniform(0, height))

    kinds, chances = ("room", "outdoors", "noise", "stripes", "blocks", "blobs"), (0.3, 0.26, 0.14, 0.1, 0.1, 0.1)
    kind = kinds[rng.choice(6, p=chances)]
    image = _mix(color(), color(), ramp(rng.uniform(0, 180)))
    horizon = int(height * rng.uniform(0.5, 0.85))
    if kind == "room":
        image[horizon:] = _mix(color(), color(), ramp(90)[horizon:])
        if rng.random() < 0.6:  # boards or tiles
            for k in np.arange(-2, 3, rng.uniform(0.15, 0.4)):
                end = int(width * (0.5 + 2.5 * k)), height
                cv2.line(image, (int(width * (0.5 + k)), horizon), end, (image[-1, 0] * 0.8).tolist(), 1, cv2.LINE_AA)
        for _ in range(rng.integers(0, 4)):  # pictures, windows, cupboards
            px, py = spot()
            corner = px + int(size * rng.uniform(0.08, 0.3)), min(py, horizon) + int(size * rng.uniform(0.08, 0.3))
            cv2.rectangle(image, (px, min(py, horizon)), corner, color().tolist(), -1)
            cv2.rectangle(image, (px, min(py, horizon)), corner, (color() * 0.5).tolist(), max(1, size // 110))
        cv2.line(image, (0, horizon), (width, horizon), (color() * 0.6).tolist(), max(1, size // 130), cv2.LINE_AA)
    elif kind == "outdoors":
        zenith = np.array((120, 170, 230), np.float32) + rng.normal(0, 25, 3).astype(np.float32)
        haze = np.array((235, 235, 225), np.float32) + rng.normal(0, 12, 3).astype(np.float32)
        image = _mix(zenith, haze, ramp(90))
        for depth in range(2):
            waves = 0.05 * np.sin(x[0] * rng.uniform(4, 14) + rng.uniform(0, 6))
            waves += 0.03 * np.sin(x[0] * rng.uniform(15, 30))
            hills = horizon + height * (0.1 * depth - 0.1 + waves)
            green = np.array((95, 140, 80), np.float32) * rng.uniform(0.6, 1.15) + rng.normal(0, 20, 3)
            below = (y * size)[..., None] > hills[None, :, None]
            image = np.where(below, green.astype(np.float32) * (1.08 - 0.25 * ramp(90)), image)
        for _ in range(rng.integers(0, 5)):  # trees
            px, crown = int(rng.uniform(0, width)), int(size * rng.uniform(0.04, 0.12))
            py = horizon - int(size * rng.uniform(0.02, 0.12))
            cv2.line(image, (px, py), (px, horizon + crown), (95, 70, 50), max(2, crown // 4), cv2.LINE_AA)
            leaf = (60 + rng.uniform(0, 60), 100 + rng.uniform(0, 60), 50 + rng.uniform(0, 40))
            cv2.ellipse(image, (px, py), (crown, int(crown * rng.uniform(0.9, 1.6))), 0, 0, 360, leaf, -1, cv2.LINE_AA)
    elif kind == "noise":
        for cells in (4, 9, 20, 45):
            image = _mix(image, color(), np.clip(0.5 + 0.35 * noise(cells), 0, 1) * 0.6)
    elif kind == "stripes":
        wave = np.sin(ramp(rng.uniform(0, 180)) * rng.uniform(15, 90))
        image = _mix(image, color(), np.clip(wave * rng.uniform(1, 8), -1, 1) * 0.4 + 0.4)
    else:
        for _ in range(rng.integers(12, 45)):
            px, py = spot()
            half = (size * rng.uniform(0.02, 0.15, 2)).astype(int).tolist()
            if kind == "blocks":
                cv2.rectangle(image, (px - half[0], py - half[1]), (px + half[0], py + half[1]), color().tolist(), -1)
            else:
                cv2.ellipse(image, (px, py), half, rng.uniform(0, 180), 0, 360, color().tolist(), -1, cv2.LINE_AA)

    for _ in range(rng.integers(0, 6)):  # sticks as long and as wide as limbs, some skin-coloured, some bent
        start, turn = np.array(spot()), rng.uniform(0, 2 * np.pi)
        hue = np.array(_SKINS[rng.integers(len(_SKINS))]) * 0.9 if rng.random() < 0.3 else color((0.1, 0.7), (0.2, 0.9))
        thickness = max(1, int(size * rng.uniform(0.006, 0.03)))
        for _ in range(rng.integers(1, 3)):
            end = start + size * rng.uniform(0.08, 0.25) * np.array((np.cos(turn), np.sin(turn)))
            cv2.line(image, start.astype(int).tolist(), end.astype(int).tolist(), hue.tolist(), thickness, cv2.LINE_AA)
            start, turn = end, turn + rng.normal(0, 0.9)
    for _ in range(rng.integers(0, 3)):  # balls and balloons
        radius = max(1, int(size * rng.uniform(0.015, 0.045)))
        cv2.circle(image, spot(), radius, color((0.2, 0.9)).tolist(), -1, cv2.LINE_AA)
    image += noise(max(8, size // 3)) * np.float32(rng.uniform(1, 5)) + noise(5) * np.float32(rng.uniform(0, 9))
    return np.clip(image, 0, 255, out=image).astype(np.uint8)


def _draw_obstacle(rng: np.random.Generator, canvas: np.ndarray, part_map: np.ndarray) -> None:
    """A post, a crate or a bush in front of everyone, changing canvas and part map in place."""
    height, width = part_map.shape
    size = min(height, width)
    kind, x = rng.integers(3), rng.uniform(0.1, 0.9) * width
    if kind == 0:  # post
        top, half = rng.uniform(-0.1, 0.5) * height, rng.uniform(0.01, 0.03) * size
        spheres = [(x, top, 0, half), (x + rng.normal(0, 0.05) * width, height + half, 0, half)]
    elif kind == 1:  # crate
        top, half = rng.uniform(0.72, 0.92) * height, rng.uniform(0.1, 0.3) * size
        spheres = [(px, py, 0, 2) for px in (x - half, x + half) for py in (top, height * 1.1)]
    else:  # bush
        top = rng.uniform(0.8, 0.98) * height
        spheres = [(x + k * 0.09 * size, top + rng.uniform(0, 0.1) * size, 0, 0.07 * size) for k in (-1, 0, 1)]
    spheres = np.array(spheres) * (1, -1, 1, 1)
    paint = _Paint((70, 120, 60), (88, 142, 74), "dots", 0.012 * size) if kind == 2 else _Paint(_bright(rng))
    _paint_layer(canvas, part_map, _Layer(spheres, paint), _OBSTACLE, 1.0, np.zeros(2), np.array((-0.6, -0.8)))


def _place_people(
    rng: np.random.Generator, people: list[_Person], image_hw: tuple[int, int]
) -> list[tuple[float, np.ndarray]]:
    """Chooses scale (picture pixels per metre) and hip position (2,) of each person, side by side with some overlap."""
    height, width = image_hw
    count = len(people)
    slots = rng.permutation(count)
    placed = []
    for person, slot in zip(people, slots, strict=True):
        spheres = np.concatenate([layer.spheres for part in person.parts for layer in part.layers])
        xy, ppm = _project(spheres, 1.0, np.zeros(2))
        low, high = (xy - (ppm * spheres[:, 3])[:, None]).min(0), (xy + (ppm * spheres[:, 3])[:, None]).max(0)
        extent = high - low
        scale = rng.uniform(0.62, 1.0) * min(height, 1.1 * width) / 1.75 * count**-0.25
        scale = min(scale, 0.97 * height / extent[1], 0.97 * width / extent[0])
        if rng.random() < 0.12:
            scale *= rng.uniform(1.1, 1.6)  # too near for the whole body to be in the picture
        # Where the middle of the body goes. Most people are whole, some stick out.
        free = np.maximum(np.array((width, height)) - extent * scale, 0) / 2
        spread = rng.uniform(-1, 1, 2) * free
        if count > 1:
            spread[0] = np.clip(((slot + rng.uniform(0.2, 0.8)) / count - 0.5) * width, -free[0], free[0])
        if rng.random() < 0.12:
            spread += rng.normal(0, 0.12, 2) * (width, height)
        middle = np.array((width, height)) / 2 + spread
        placed.append((float(scale), middle - (low + high) / 2 * scale))
    return placed


def draw_scene(
    rng: np.random.Generator, image_hw: tuple[int, int] = (256, 320), max_people: int = 3
) -> tuple[np.ndarray, list[dict]]:
    """Draws one picture of one or more people and says where their joints are.

    Args:
        rng: decides everything.
        image_hw: (H, W) of the picture in pixels.
        max_people: most people in a picture; how many is drawn from 1 to this.

    Returns:
        The picture, (H, W, 3) uint8 RGB, and one dict per person who can be seen, far to near:
        ``keypoints_xy`` (17, 2) float64 picture pixels in COCO's order, true also outside the picture; ``visibility``
        (17,) int64, 0 outside the picture, 1 hidden by the own body, another person or a thing, 2 visible;
        ``box_xywh`` (4,) float64, the silhouette with its hidden parts, clipped to the picture; ``area`` float, the
        visible silhouette in square pixels.
    """
    height, width = image_hw
    chances = 0.62 ** np.arange(max_people)
    count = 1 + int(rng.choice(max_people, p=chances / chances.sum()))
    background = _draw_background(rng, image_hw)
    canvas = cv2.resize(background, (width * SUPERSAMPLING, height * SUPERSAMPLING), interpolation=cv2.INTER_LINEAR)
    part_map = np.zeros(canvas.shape[:2], np.uint16)
    light = rng.uniform(-2.6, -0.5)
    light_xy = np.array((np.cos(light), np.sin(light)))

    people = []
    for _ in range(count):
        pose, angles = _sample_pose(rng)
        people.append(_build_person(rng, pose, angles, _sample_yaw(rng, pose)))
    placed = sorted(zip(_place_people(rng, people, image_hw), people, strict=True), key=lambda pair: pair[0][0])
    found = []
    for index, ((scale, hips_xy), person) in enumerate(placed):  # the smaller, the farther
        first_number = 1 + index * _PARTS_PER_PERSON
        low, high = _paint_person(canvas, part_map, person, first_number, scale, hips_xy, light_xy)
        low, high = (np.clip(corner, 0, (width - 1, height - 1)) for corner in (low, high))
        joints_xy, _ = _project(person.joints, scale, hips_xy)
        found.append((first_number, joints_xy, person.faces_camera, np.concatenate((low, high - low))))
    if rng.random() < 0.2:
        _draw_obstacle(rng, canvas, part_map)

    annotations = []
    seen = np.bincount(part_map.ravel(), minlength=1 + count * _PARTS_PER_PERSON)  # canvas pixels of each part
    for first_number, joints_xy, faces_camera, box_xywh in found:
        visibility = _visibility(part_map, joints_xy, first_number, faces_camera, image_hw)
        if not (visibility == 2).any():
            continue  # nobody could say that there is anyone
        annotations.append(
            {
                "keypoints_xy": joints_xy,
                "visibility": visibility,
                "box_xywh": box_xywh,
                "area": float(seen[first_number : first_number + _PARTS_PER_PERSON].sum()) / SUPERSAMPLING**2,
            }
        )
    image = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    grain = rng.integers(0, 9, (height, width), dtype=np.uint8)  # the camera's noise, alike in all channels
    return cv2.subtract(cv2.add(image, (4, 4, 4, 0)), cv2.merge((grain, grain, grain))), annotations


# ----------------------------------------------------------------------------------------------------------------- set


def _coco_category() -> dict:
    return {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(COCO.joint_names),
        "skeleton": [[a + 1, b + 1] for a, b in COCO.edges],  # COCO counts joints from 1
    }


def _is_there(annotations: Path, info: dict) -> bool:
    """Whether the folder already holds this very set, complete.

    Raises:
        UserError: it holds another set, or pictures that did not come from here.
    """
    images = annotations.parent / "images"
    for file in (annotations, annotations.with_suffix(".json.part")):
        if not file.is_file():
            continue
        try:
            found = json.loads(file.read_text(encoding="utf-8"))["info"]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{file}: not an annotation file of synthetic people; choose another folder") from None
        if found != info:
            settings = ("seed", "num_images", "image_hw", "max_people", "generator_version")
            differing = ", ".join(
                f"{key} {found.get(key) if isinstance(found, dict) else None} instead of {info[key]}"
                for key in settings
                if not isinstance(found, dict) or found.get(key) != info[key]
            )
            raise UserError(
                f"{annotations.parent} already holds another set ({differing or 'of other origin'}); choose another "
                "folder or delete this one"
            )
        names = {entry.name for entry in os.scandir(images) if entry.stat().st_size} if images.is_dir() else set()
        return file == annotations and all(f"{i:06d}.jpg" in names for i in range(info["num_images"]))
    if images.exists() and (not images.is_dir() or any(images.iterdir())):
        raise UserError(f"{images} already holds files that do not belong to a synthetic set; choose another folder")
    return False


def make_synthetic(
    folder: str | Path,
    num_images: int,
    *,
    seed: int = 0,
    image_hw: tuple[int, int] = (256, 320),
    max_people: int = 3,
    progress: bool = True,
) -> Path:
    """Draws a set of synthetic people and writes it in COCO's keypoint format.

    Writes ``images/000000.jpg`` … and, last and at once, ``annotations.json``. Picture i depends on ``seed`` and i
    alone, so a smaller set is the beginning of a larger one. A set already there is not drawn again, an interrupted
    one is.

    Args:
        folder: where to; made if need be.
        num_images: how many pictures.
        seed: of all randomness, 0 or more.
        image_hw: (H, W) of every picture in pixels, at least 32 each.
        max_people: most people in one picture, 1 to 20.
        progress: show a progress bar.

    Returns:
        Path of ``annotations.json``; the pictures lie in ``images`` beside it.

    Raises:
        UserError: a number out of range, a folder that cannot be written, or one that holds something else.
    """
    height, width = image_hw
    if num_images < 1:
        raise UserError(f"num_images is {num_images}; a set needs at least 1 picture")
    if seed < 0:
        raise UserError(f"seed is {seed}; it must be 0 or more")
    if min(height, width) < 32:
        raise UserError(f"image_hw is {height}×{width}; people need at least 32 × 32 pixels")
    if not 1 <= max_people <= 20:
        raise UserError(f"max_people is {max_people}; it must lie between 1 and 20")
    folder = Path(folder)
    annotations = folder / "annotations.json"
    info = {
        "description": "Synthetic people drawn by LGM-Pose",
        "generator_version": GENERATOR_VERSION,
        "seed": int(seed),
        "num_images": int(num_images),
        "image_hw": [int(height), int(width)],
        "max_people": int(max_people),
    }
    partial = annotations.with_suffix(".json.part")
    try:
        if _is_there(annotations, info):
            return annotations
        (folder / "images").mkdir(parents=True, exist_ok=True)
        annotations.unlink(missing_ok=True)
        partial.write_text(json.dumps({"info": info}), encoding="utf-8")  # marks an interrupted set as ours
        images, people = [], []
        for i in tqdm(range(num_images), desc="drawing people", unit="picture", disable=not progress):
            image, found = draw_scene(np.random.default_rng([seed, i]), (height, width), max_people)
            encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
            name = f"{i:06d}.jpg"
            (folder / "images" / name).write_bytes(encoded.tobytes())
            images.append({"id": i, "file_name": name, "height": int(height), "width": int(width)})
            # pycocotools takes 0 for "no person": numbers of persons start at 1.
            people += [_coco_annotation(person, len(people) + k, i) for k, person in enumerate(found, start=1)]
        contents = {"info": info, "images": images, "annotations": people, "categories": [_coco_category()]}
        partial.write_text(json.dumps(contents), encoding="utf-8")
        os.replace(partial, annotations)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error}); choose another folder") from error
    return annotations


def _coco_annotation(person: dict, person_id: int, image_id: int) -> dict:
    """One entry of COCO's ``annotations`` from one dict of ``draw_scene``; a joint outside the picture is 0, 0, 0."""
    visibility = person["visibility"]
    xy = np.where(visibility[:, None] > 0, person["keypoints_xy"].round(2), 0)
    keypoints = np.concatenate((xy, visibility[:, None]), axis=1)
    return {
        "id": person_id,
        "image_id": image_id,
        "category_id": 1,
        "keypoints": [int(n) if i % 3 == 2 else n for i, n in enumerate(keypoints.ravel().tolist())],
        "num_keypoints": int((visibility > 0).sum()),
        "bbox": person["box_xywh"].round(2).tolist(),
        "area": person["area"],
        "iscrowd": 0,
    }

"""Bodies: flesh and clothes around the bones, and the 17 joints of COCO.

A body part is the convex hull of a few spheres, seen from the front. Its outline is correct from any side and
costs one filled polygon. All numbers below are metres on a person of about 1.75 m.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lgmpose.data.synthetic.bones import SIDES, Build, Frame, pose_bones, sample_build
from lgmpose.data.synthetic.clothes import Clothes, Paint, random_color, sample_clothes
from lgmpose.data.synthetic.posture import Pose
from lgmpose.pose.skeletons import COCO

__all__ = ["PARTS", "Layer", "Part", "Person", "build_person"]

PARTS = ("seat", "torso", "pelvis", "skirt", "neck", "head", "brim", "hair") + tuple(
    f"{side}_{part}" for side, _ in SIDES for part in ("ear", "upper_arm", "forearm", "hand", "thigh", "shin", "foot")
)


@dataclass(frozen=True)
class Layer:
    """The convex hull of some spheres, in one paint. ``cap`` keeps only one side of the first sphere."""

    spheres: np.ndarray  # (N, 4): x, y, z, radius in m, camera coordinates
    paint: Paint
    cap: tuple[float, float, float, float] | None = None  # unit direction, and the lowest cosine with it


@dataclass(frozen=True)
class Part:
    """A body part: layers that are painted one over the other, for example skin, then sleeve."""

    name: str  # one of ``PARTS``
    layers: list[Layer]
    depth: float  # m towards the viewer, with a bias that orders parts of almost equal depth


@dataclass(frozen=True)
class Person:
    """A posed and dressed body with the hips at the origin, not yet placed in a picture."""

    joints: np.ndarray  # (17, 3) m, camera coordinates, COCO order
    faces_camera: np.ndarray  # (17,) bool, False if the joint is on the far side of its own head or trunk
    parts: list[Part]


def build_person(rng: np.random.Generator, pose: Pose) -> Person:
    """Give a pose a body of random build and clothes, seen by a randomly tilted camera. Sitting people get a seat."""
    clothes = sample_clothes(rng, upright=abs(pose.angles["roll"]) < 40)
    build = sample_build(rng)
    bones = pose_bones(build, pose, camera_tilt=rng.normal(4, 5))  # most cameras look down a little
    parts = _trunk(bones, build, clothes) + _head(rng, bones, clothes)
    for side, sign in SIDES:
        parts += _arm(bones, build, clothes, side, sign) + _leg(bones, build, clothes, side, sign)
    if clothes.legs == "skirt":
        below = max(part.depth for part in parts if part.name in ("pelvis", "left_thigh", "right_thigh"))
        parts.append(Part("skirt", [_skirt(bones, build, clothes)], below + 0.002))
    if pose.name == "sit":
        half, low = 0.2, -0.12 - 0.33 * build.leg_scale
        corners = [(x, y, z, 0.006) for x in (-half, half) for y in (-0.09, low) for z in (-0.22, 0.2)]
        parts.append(Part("seat", [Layer(bones["ground"].spheres(*corners), Paint(random_color(rng)))], -1e9))
    return Person(*_joints(bones), parts)


def _joints(bones: dict[str, Frame]) -> tuple[np.ndarray, np.ndarray]:
    """Return COCO's joints (17, 3) in m, camera coordinates, and ``Person.faces_camera``."""
    head, chest = bones["head"], bones["chest"]
    joints = {"nose": head.at(0, 0.052, 0.122)}
    faces = {"nose": head.direction(0, 0, 1)[2] > -0.2}
    starts = {"shoulder": "upper_arm", "elbow": "forearm", "wrist": "hand",
              "hip": "thigh", "knee": "shin", "ankle": "foot"}  # fmt: skip
    for side, sign in SIDES:
        joints[f"{side}_eye"] = head.at(0.038 * sign, 0.085, 0.106)
        joints[f"{side}_ear"] = head.at(0.104 * sign, 0.076, 0.002)
        joints |= {f"{side}_{joint}": bones[f"{side}_{bone}"].origin for joint, bone in starts.items()}
        faces[f"{side}_eye"] = _eye_direction(head, sign)[2] > 0.02
        faces[f"{side}_shoulder"] = joints[f"{side}_shoulder"][2] > chest.at(0, 0.335, 0)[2] - 0.09
        faces[f"{side}_hip"] = joints[f"{side}_hip"][2] > -0.055
    # The others are surrounded by parts of their own, so the part map decides about them.
    names = COCO.joint_names
    return np.array([joints[name] for name in names]), np.array([bool(faces.get(name, True)) for name in names])


def _eye_direction(head: Frame, sign: float) -> np.ndarray:
    return head.direction(0.36 * sign, -0.1, 0.93)


def _part(name: str, bias: float, *layers: Layer) -> Part:
    """Return a part whose depth is the mean of its first layer plus a bias in metres."""
    return Part(name, list(layers), float(np.mean(layers[0].spheres[:, 2])) + bias)


def _trunk(bones: dict[str, Frame], build: Build, clothes: Clothes) -> list[Part]:
    """Return hips and chest. The shirt covers the hips' upper half, and so the seam with the trousers."""
    g, hip_x, shoulder_x, loose = build.girth, build.hip_x * 0.72, build.shoulder_x * 0.86, clothes.width
    pelvis, chest = bones["pelvis"], bones["chest"]
    hips = pelvis.spheres((0.052, 0.11, 0, 0.08 * g), (-0.052, 0.11, 0, 0.08 * g),
                          (hip_x, 0, -0.012, 0.092 * g), (-hip_x, 0, -0.012, 0.092 * g))  # fmt: skip
    shirt = np.concatenate((
        chest.spheres((0, 0.385, 0, 0.045), (shoulder_x, 0.34, -0.005, 0.058), (-shoulder_x, 0.34, -0.005, 0.058),
                      (0.07, 0.21, 0.016, 0.085 * g), (-0.07, 0.21, 0.016, 0.085 * g)),
        pelvis.spheres((0.056, 0.06, 0, 0.083 * g + loose), (-0.056, 0.06, 0, 0.083 * g + loose)),
    ))  # fmt: skip
    return [_part("pelvis", 0.0, Layer(hips, clothes.trousers)), _part("torso", 0.07, Layer(shirt, clothes.shirt))]


def _head(rng: np.random.Generator, bones: dict[str, Frame], clothes: Clothes) -> list[Part]:
    """Return head, hat, neck, ears and long hair: a large sphere for the skull, a small one for the jaw, and a face."""
    head, style = bones["head"], clothes.hair_style
    skull = Layer(head.spheres((0, 0.1, 0.012, 0.105), (0, 0.025, 0.036, 0.066)), clothes.skin)
    depth = float(skull.spheres[:, 2].mean()) + 0.07
    red, green, blue = (int(c * 0.72) for c in clothes.skin.color)
    dark_skin = Paint((red, green, blue), flat=True)

    layers = [skull]
    if style != "bald":
        back = (*head.direction(0, 0.55, -0.835), clothes.hairline)
        layers.append(Layer(head.spheres((0, 0.104, 0.004, 0.113)), clothes.hair, cap=back))
    if style == "hat":
        top = (*head.direction(0, 0.97, -0.24), 0.2)
        layers.append(Layer(head.spheres((0, 0.106, 0.004, 0.116)), clothes.hat, cap=top))
    layers += _eyes_and_mouth(rng, head, clothes)
    nose = [Layer(head.spheres((0, 0.05, 0.118, 0.0145), (0, 0.078, 0.104, 0.008)), dark_skin),
            Layer(head.spheres((0, 0.053, 0.121, 0.0115)), clothes.skin)]  # fmt: skip
    facing = head.direction(0, 0, 1)[2]
    parts = [Part("head", layers + nose if facing >= 0 else nose + layers, depth)]

    if style == "hat":
        brim = head.spheres((0.07, 0.142, 0.08, 0.01), (-0.07, 0.142, 0.08, 0.01), (0, 0.146, 0.17, 0.012))
        parts.append(Part("brim", [Layer(brim, clothes.hat)], depth + (0.002 if facing > -0.1 else -0.002)))
    throat = np.concatenate((bones["chest"].spheres((0, 0.35, -0.005, 0.05)), head.spheres((0, 0.02, 0, 0.04))))
    behind_the_chin = min(float(np.mean(throat[:, 2])) + 0.04, depth - 0.01)
    parts.append(Part("neck", [Layer(throat, clothes.skin)], behind_the_chin))
    for side, sign in SIDES:
        ear = [Layer(head.spheres((0.103 * sign, 0.083, 0, 0.021), (0.1 * sign, 0.06, 0.004, 0.014)), clothes.skin)]
        if head.direction(sign, 0, 0)[2] > 0.3:
            ear.append(Layer(head.spheres((0.11 * sign, 0.078, 0.004, 0.01)), dark_skin))
        # Ears stick out: one is hidden only when the head is turned far away from it.
        near = head.direction(sign, 0, 0.1)[2] > -0.25
        parts.append(Part(f"{side}_ear", ear, depth + (0.001 if near else -0.001)))
    if style == "long":
        strands = head.spheres((0, 0.11, -0.035, 0.1), (0, -0.02, -0.05, 0.088), (0, -0.13, -0.07, 0.066))
        parts.append(_part("hair", 0.01, Layer(strands, clothes.hair)))
    elif style == "bun":
        parts.append(_part("hair", 0.04, Layer(head.spheres((0, 0.16, -0.13, 0.05)), clothes.hair)))
    return parts


def _eyes_and_mouth(rng: np.random.Generator, head: Frame, clothes: Clothes) -> list[Layer]:
    """Return the features that face the viewer. They are flat, so those on the far side must be left out."""
    layers = []
    for _, x in SIDES:
        if _eye_direction(head, x)[2] > 0.12:
            eyeball = head.spheres((0.034 * x, 0.086, 0.104, 0.0145), (0.042 * x, 0.086, 0.101, 0.0125))
            brow = head.spheres((0.026 * x, 0.113, 0.108, 0.004), (0.053 * x, 0.112, 0.097, 0.004))
            pupil = head.spheres((0.038 * x, 0.085, 0.108, 0.0105))
            layers += [Layer(eyeball, Paint((250, 250, 248), flat=True)), Layer(pupil, Paint((36, 26, 24), flat=True))]
            layers += [Layer(brow, clothes.hair)]
    if head.direction(0, 0, 1)[2] > 0.1:
        smile = rng.uniform(0.002, 0.012)
        mouth = head.spheres((0.024, 0.02, 0.094, 0.004), (-0.024, 0.02, 0.094, 0.004), (0, 0.02 - smile, 0.1, 0.006))
        layers.append(Layer(mouth, Paint((150, 58, 58), flat=True)))
    return layers


def _limb(
    build: Build, start: Frame, end: Frame, *stations: tuple[float, float], extra: float = 0.0
) -> np.ndarray:
    """Place spheres along the straight line between two joints; their hull is the limb.

    Args:
        build: its ``girth`` multiplies the radii.
        start: frame of the first joint.
        end: frame of the second joint.
        *stations: one per sphere: its position as a share of the distance (0: first joint, 1: second), its radius in m.
        extra: thickness of clothes, in m, added to every radius.

    Returns:
        (N, 4): x, y, z and radius in m, camera coordinates.
    """
    a, b = start.origin, end.origin
    return np.array([(*(a + t * (b - a)), radius * build.girth + extra) for t, radius in stations])


def _arm(bones: dict[str, Frame], build: Build, clothes: Clothes, side: str, sign: float) -> list[Part]:
    shoulder, elbow, wrist = (bones[f"{side}_{bone}"] for bone in ("upper_arm", "forearm", "hand"))
    long = clothes.sleeves == "long"
    paint, extra = (clothes.shirt, clothes.width * 0.8) if long else (clothes.skin, 0.0)
    upper = [Layer(_limb(build, shoulder, elbow, (0, 0.05), (0.35, 0.047), (1, 0.037), extra=extra), paint)]
    if clothes.sleeves == "short":
        sleeve = _limb(build, shoulder, elbow, (0, 0.05), (0.62, 0.047), extra=clothes.width)
        upper.append(Layer(sleeve, clothes.shirt))
    end = (0.93, 0.029) if long else (1, 0.027)
    fore = Layer(_limb(build, elbow, wrist, (0, 0.037), (0.25, 0.04), end, extra=extra), paint)
    palm = elbow.spheres((0, -0.265, 0, 0.03), (0, -0.3, 0, 0.034), (0, -0.35, 0.004, 0.022))
    thumb = elbow.spheres((0, -0.275, 0.015, 0.016), (-0.012 * sign, -0.315, 0.045, 0.012))
    return [
        _part(f"{side}_upper_arm", 0.09, *upper),
        _part(f"{side}_forearm", 0.1, fore),
        _part(f"{side}_hand", 0.101, Layer(palm, clothes.skin), Layer(thumb, clothes.skin)),
    ]


def _leg(bones: dict[str, Frame], build: Build, clothes: Clothes, side: str, sign: float) -> list[Part]:
    hip, knee, ankle = (bones[f"{side}_{bone}"] for bone in ("thigh", "shin", "foot"))
    trousers, loose = clothes.legs == "trousers", clothes.width * 0.6
    shape = ((0, 0.08), (0.3, 0.076), (1, 0.05))
    if trousers:
        thigh = [Layer(_limb(build, hip, knee, *shape, extra=loose), clothes.trousers)]
    else:
        thigh = [Layer(_limb(build, hip, knee, *shape), clothes.skin)]
    shin = [Layer(_limb(build, knee, ankle, (0, 0.049), (0.28, 0.053), (1, 0.032)), clothes.skin)]
    if trousers:
        cuff = _limb(build, knee, ankle, (0, 0.049), (0.28, 0.053), (0.93, 0.034), extra=loose)
        shin.append(Layer(cuff, clothes.trousers))
    elif clothes.legs == "shorts":
        short = _limb(
            build, hip, knee, (0, 0.08), (0.25, 0.078), (clothes.hem - 0.08, 0.066), extra=clothes.width
        )
        thigh.append(Layer(short, clothes.trousers))
    shoe = ankle.spheres((0, -0.012, -0.008, 0.038), (0, -0.045, -0.03, 0.032), (0.004 * sign, -0.052, 0.13, 0.027))
    sole = ankle.spheres((0, -0.075, -0.035, 0.008), (0.004 * sign, -0.075, 0.135, 0.008))
    return [
        _part(f"{side}_thigh", -0.09, *thigh),
        _part(f"{side}_shin", -0.03, *shin),
        _part(f"{side}_foot", -0.025, Layer(shoe, clothes.shoe), Layer(sole, clothes.sole)),
    ]


def _skirt(bones: dict[str, Frame], build: Build, clothes: Clothes) -> Layer:
    """Return one hull from the waist to both hems."""
    waist = bones["pelvis"].spheres((0.052, 0.1, 0, 0.082 * build.girth), (-0.052, 0.1, 0, 0.082 * build.girth))
    stations = ((0, 0.086), (clothes.hem, 0.085))
    hems = [
        _limb(build, bones[f"{side}_thigh"], bones[f"{side}_shin"], *stations, extra=clothes.width) for side, _ in SIDES
    ]
    return Layer(np.concatenate((waist, *hems)), clothes.trousers)

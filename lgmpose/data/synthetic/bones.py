"""Forward kinematics: from the angles of a pose to where every bone starts and how it is turned.

Body coordinates are metres, x to the person's *own left*, y up, z forward. Camera coordinates are x right, y up, z
towards the viewer, the middle between the hips being 0. Unturned, the person faces the viewer and both agree: the left
hand is on the picture's right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lgmpose.data.synthetic.posture import Pose

__all__ = ["SIDES", "Build", "Frame", "pose_bones", "sample_build"]

SIDES = (("left", 1.0), ("right", -1.0))  # and the sign of x there


@dataclass(frozen=True)
class Build:
    """What differs from body to body."""

    girth: float  # factor of all thicknesses
    head_scale: float
    leg_scale: float
    shoulder_x: float  # m from the middle
    hip_x: float  # m from the middle


def sample_build(rng: np.random.Generator) -> Build:
    """Draws how stout, broad and long-legged somebody is."""
    return Build(
        girth=rng.uniform(0.88, 1.22),
        head_scale=rng.uniform(1.06, 1.32),
        leg_scale=rng.uniform(0.93, 1.05),
        shoulder_x=rng.uniform(0.16, 0.19),
        hip_x=rng.uniform(0.085, 0.1),
    )


@dataclass(frozen=True)
class Frame:
    """A bone: where it starts and how it is turned. Local coordinates are those of the unturned body."""

    origin: np.ndarray  # (3,) m, camera coordinates
    rotation: np.ndarray  # (3, 3) local → camera
    scale: float = 1.0  # of lengths measured from here; bones that start here do not inherit it

    def at(self, x: float, y: float, z: float) -> np.ndarray:
        """(3,) camera coordinates of a local point, in metres."""
        return self.origin + self.rotation @ (np.array((x, y, z)) * self.scale)

    def direction(self, x: float, y: float, z: float) -> np.ndarray:
        """(3,) camera coordinates of a local unit direction; the last is 1 if it points at the viewer, -1 if away."""
        return self.rotation @ np.array((x, y, z))

    def child(self, x: float, y: float, z: float, rotation: np.ndarray, scale: float = 1.0) -> Frame:
        """The bone that starts at a local point and is turned against this one."""
        return Frame(self.at(x, y, z), self.rotation @ rotation, scale)

    def spheres(self, *xyzr: tuple[float, float, float, float]) -> np.ndarray:
        """(N, 4) spheres in camera coordinates from local centres and radii, in metres."""
        local = np.array(xyzr, np.float64) * self.scale
        return np.concatenate((self.origin + local[:, :3] @ self.rotation.T, local[:, 3:]), axis=1)


def _turn(axis: str, degrees: float) -> np.ndarray:
    """(3, 3) right-handed rotation about an axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def pose_bones(build: Build, pose: Pose, camera_tilt: float) -> dict[str, Frame]:
    """Every bone of a posed body, from the hips outwards.

    Args:
        build: lengths of the bones.
        pose: the angles between them.
        camera_tilt: degrees by which the camera looks down.

    Returns:
        Frames by name: ``ground`` (turned like the person, but upright), ``pelvis``, ``chest``, ``head`` and, with
        ``left_`` or ``right_`` before them, ``upper_arm``, ``forearm``, ``hand``, ``thigh``, ``shin``, ``foot``. Limbs
        start at the joint that moves them and run along their -y.
    """
    angles = pose.angles
    ground = Frame(np.zeros(3), _turn("z", angles["roll"]) @ _turn("x", camera_tilt) @ _turn("y", pose.yaw))
    pelvis = ground.child(0, 0, 0, _turn("x", angles["pitch"]))
    curve = _turn("y", angles["spine_twist"]) @ _turn("z", angles["spine_side"]) @ _turn("x", angles["spine_flex"])
    chest = pelvis.child(0, 0.12, 0, curve)
    nod = _turn("y", angles["neck_twist"]) @ _turn("z", angles["neck_side"]) @ _turn("x", angles["neck_flex"])
    head = chest.child(0, 0.445, 0.012, nod, build.head_scale)
    bones = {"ground": ground, "pelvis": pelvis, "chest": chest, "head": head}
    for side, sign in SIDES:
        own = {name.removeprefix(f"{side}_"): angle for name, angle in angles.items() if name.startswith(side)}
        reach = _turn("z", sign * own["shoulder_abduct"]) @ _turn("x", -own["shoulder_flex"])
        reach = reach @ _turn("y", -sign * own["shoulder_twist"])
        raised = max(own["shoulder_abduct"], own["shoulder_flex"]) / 180  # the shoulder rises with the arm
        upper_arm = chest.child(sign * build.shoulder_x, 0.335 + 0.035 * raised, 0, reach)
        forearm = upper_arm.child(0, -0.285, 0, _turn("x", -own["elbow"]))
        hand = forearm.child(0, -0.25, 0, np.eye(3))
        swing = _turn("z", sign * own["hip_abduct"]) @ _turn("x", -own["hip_flex"])
        swing = swing @ _turn("y", -sign * own["hip_twist"])
        thigh = pelvis.child(sign * build.hip_x, 0, 0, swing)
        shin = thigh.child(0, -0.42 * build.leg_scale, 0, _turn("x", own["knee"]))
        foot = shin.child(0, -0.41 * build.leg_scale, 0, _turn("x", own["ankle"]))
        limbs = {"upper_arm": upper_arm, "forearm": forearm, "hand": hand, "thigh": thigh, "shin": shin, "foot": foot}
        bones |= {f"{side}_{name}": frame for name, frame in limbs.items()}
    return bones

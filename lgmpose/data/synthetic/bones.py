"""Forward kinematics: from the angles of a pose to where every bone starts and how it is rotated.

Body coordinates are metres, x to the person's *own left*, y up, z forward. Camera coordinates are x right, y up, z
towards the viewer, with the middle between the hips at 0. A person with yaw 0 faces the viewer and both agree: the left
hand is on the picture's right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lgmpose.data.synthetic.posture import Pose

__all__ = ["SIDES", "Build", "Frame", "pose_bones", "sample_build"]

SIDES = (("left", 1.0), ("right", -1.0))  # with the sign of x there


@dataclass(frozen=True)
class Build:
    """What differs from body to body."""

    girth: float  # factor of all thicknesses
    head_scale: float
    leg_scale: float
    shoulder_x: float  # m from the middle
    hip_x: float  # m from the middle


def sample_build(rng: np.random.Generator) -> Build:
    """Draw the proportions of a body."""
    return Build(*(rng.uniform(*limits) for limits in (
        (0.88, 1.22), (1.06, 1.32), (0.93, 1.05), (0.16, 0.19), (0.085, 0.1),
    )))  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """A bone: where it starts and how it is rotated. Local coordinates are those of the body standing straight."""

    origin: np.ndarray  # (3,) m, camera coordinates
    rotation: np.ndarray  # (3, 3) local → camera
    scale: float = 1.0  # of lengths measured from here; bones that start here do not inherit it

    def at(self, x: float, y: float, z: float) -> np.ndarray:
        """Return the camera coordinates (3,) of a local point, in metres."""
        return self.origin + self.rotation @ (np.array((x, y, z)) * self.scale)

    def direction(self, x: float, y: float, z: float) -> np.ndarray:
        """Return a local unit direction in camera coordinates (3,); its z is 1 if it points at the viewer."""
        return self.rotation @ np.array((x, y, z))

    def child(self, x: float, y: float, z: float, rotation: np.ndarray, scale: float = 1.0) -> Frame:
        """Return the bone that starts at a local point and is rotated relative to this one."""
        return Frame(self.at(x, y, z), self.rotation @ rotation, scale)

    def spheres(self, *xyzr: tuple[float, float, float, float]) -> np.ndarray:
        """Return spheres (N, 4) in camera coordinates from local centres and radii, in metres."""
        local = np.array(xyzr, np.float64) * self.scale
        return np.concatenate((self.origin + local[:, :3] @ self.rotation.T, local[:, 3:]), axis=1)


def _turn(**degrees: float) -> np.ndarray:
    """Return the product of right-handed rotations about axes, (3, 3); the last one named is applied first."""
    product = np.eye(3)
    for axis, angle in degrees.items():
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
        matrix = np.eye(3)
        matrix[i, i] = matrix[j, j] = c
        matrix[i, j], matrix[j, i] = -s, s
        product = product @ matrix
    return product


def pose_bones(build: Build, pose: Pose, camera_tilt: float) -> dict[str, Frame]:
    """Return every bone of a posed body, from the hips outwards.

    Args:
        build: lengths of the bones.
        pose: the angles between them.
        camera_tilt: degrees by which the camera looks down.

    Returns:
        Frames by name: ``ground`` (rotated like the person, but upright), ``pelvis``, ``chest``, ``head`` and, with the
        prefix ``left_`` or ``right_``, ``upper_arm``, ``forearm``, ``hand``, ``thigh``, ``shin``, ``foot``. Limbs start
        at the joint that moves them and run along their -y.
    """
    a = pose.angles
    ground = Frame(np.zeros(3), _turn(z=a["roll"], x=camera_tilt, y=pose.yaw))
    pelvis = ground.child(0, 0, 0, _turn(x=a["pitch"]))
    chest = pelvis.child(0, 0.12, 0, _turn(y=a["spine_twist"], z=a["spine_side"], x=a["spine_flex"]))
    nod = _turn(y=a["neck_twist"], z=a["neck_side"], x=a["neck_flex"])
    bones = {
        "ground": ground, "pelvis": pelvis, "chest": chest,
        "head": chest.child(0, 0.445, 0.012, nod, build.head_scale),
    }  # fmt: skip
    for side, sign in SIDES:
        own = {name.removeprefix(f"{side}_"): angle for name, angle in a.items() if name.startswith(side)}
        reach = _turn(z=sign * own["shoulder_abduct"], x=-own["shoulder_flex"], y=-sign * own["shoulder_twist"])
        raised = max(own["shoulder_abduct"], own["shoulder_flex"]) / 180  # the shoulder rises with the arm
        arm = chest.child(sign * build.shoulder_x, 0.335 + 0.035 * raised, 0, reach)
        forearm = arm.child(0, -0.285, 0, _turn(x=-own["elbow"]))
        swing = _turn(z=sign * own["hip_abduct"], x=-own["hip_flex"], y=-sign * own["hip_twist"])
        thigh = pelvis.child(sign * build.hip_x, 0, 0, swing)
        shin = thigh.child(0, -0.42 * build.leg_scale, 0, _turn(x=own["knee"]))
        bones |= {
            f"{side}_upper_arm": arm, f"{side}_forearm": forearm,
            f"{side}_hand": forearm.child(0, -0.25, 0, _turn()), f"{side}_thigh": thigh, f"{side}_shin": shin,
            f"{side}_foot": shin.child(0, -0.41 * build.leg_scale, 0, _turn(x=own["ankle"])),
        }  # fmt: skip
    return bones

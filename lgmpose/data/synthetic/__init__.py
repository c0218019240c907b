"""Synthetic people, drawn by the computer, with joints that are known exactly.

A person is built in three dimensions and drawn in two. Each file uses only those before it:

1. ``posture``: joint angles, drawn around one of twenty named poses and kept within what joints can do;
2. ``bones``: forward kinematics, from the angles to the place and direction of every bone;
3. ``clothes``: colours, patterns and garments;
4. ``body``: body parts and clothes as convex hulls of spheres, and the 17 joints;
5. ``painting``: parts painted far to near, into pixels and into a map of part numbers;
6. ``background``: what is behind the people, and in front of them;
7. ``scene``: one picture with its annotations; the map tells which joints are visible;
8. ``writer``: many pictures, as files in COCO's keypoint format.
"""

from lgmpose.data.synthetic.scene import draw_scene
from lgmpose.data.synthetic.writer import GENERATOR_VERSION, make_synthetic

__all__ = ["GENERATOR_VERSION", "draw_scene", "make_synthetic"]

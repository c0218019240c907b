"""Synthetic people: drawn, dressed and posed by the computer, with joints that are known exactly.

A person is built in three dimensions and drawn in two. Read the files in this order; each uses only those before it:

1. ``pose``: joint angles in degrees, drawn around one of twenty named poses and kept within what joints can do;
2. ``bones``: forward kinematics, which turns the angles into the place and direction of every bone;
3. ``clothes``: colours, patterns and garments;
4. ``body``: every body part is the convex hull of a few spheres, a believable outline from any side; clothes are the
   same hulls, a little wider. Here the 17 joints get their places in space;
5. ``drawing``: parts are sorted by depth and painted far to near. Whatever is painted also writes its number into a
   map of the same size;
6. ``visibility``: that map tells which part is seen at a joint: its own limb (visible) or something else (hidden);
7. ``background``: what stands behind the people, and in front of them;
8. ``scene``: one picture, from background to annotations;
9. ``writer``: many pictures, as files in COCO's keypoint format.
"""

from __future__ import annotations

from lgmpose.data.synthetic.scene import draw_scene
from lgmpose.data.synthetic.writer import GENERATOR_VERSION, make_synthetic

__all__ = ["GENERATOR_VERSION", "draw_scene", "make_synthetic"]

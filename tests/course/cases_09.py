"""Lesson 09: wrong versions that its proofs and its exercises reject."""

import numpy as np

from lgmpose.pose import geometry, skeletons

# The right text of the proof, and a wrong one that it must reject.
MISTAKES = {
    'coco box one pixel wider': ('left + w - 1)', 'left + w)'),
    'coco box not padded': ('1.25 * (right - left)', '(right - left)'),
    'coco keypoints as three rows': ('.reshape(-1, 3)', '.reshape(3, -1).T'),
    'mpii pixels counted from 0': ('np.array(joints)[:15] - 1', 'np.array(joints)[:15]'),
    'mpii centre not moved down': ('+ 15 * 0.8 - 1]', '- 1]'),
    'mpii scale without room': ('round(200 * 0.8 * 1.25)', 'round(200 * 0.8)'),
    'lspet junk joint used': ('joints_K3n[1:, :2, 0] - 1', 'joints_K3n[:, :2, 0] - 1'),
    'lspet pixels counted from 0': ('joints_K3n[1:, :2, 0] - 1', 'joints_K3n[1:, :2, 0]'),
    'H and W swapped': ('size_wh[1] * W / H)', 'size_wh[1] * H / W)'),
    'rotated both ways': ('[np.sin(angle), -np.cos(angle)]', '[-np.sin(angle), -np.cos(angle)]'),
    'flip ignored': ('[0 if flip else W, H / 2]', '[W, H / 2]'),
    'two scales': ('H / 2 - W / 2]', '0]'),
    'shift forgotten': (' + matrix[:, 2]', ''),
    'matrix not inverted': ('invert_matrix(package)', 'package'),
    'sides not swapped': ('if flip:  #', 'if False:  #'),
    "another epoch's draws": ('((5, 0, index))', '((5, 1, index))'),
    'pixels mirrored': ('(image_hw[1], image_hw[0]))', '(image_hw[1], image_hw[0]))[:, ::-1]'),
    'every joint a left one': ('.replace("·", "right")', '.replace("·", "left")'),
}


def mirrored_about_another_axis(patch):
    right = geometry.crop_matrix

    def wrong(*args, **kwargs):
        matrix = right(*args, **kwargs)
        matrix[0, 2] -= kwargs.get("flip", False)
        return matrix

    patch.setattr(geometry, "crop_matrix", wrong)


def a_pair_forgotten(patch):
    patch.setitem(vars(skeletons.LSP), "flip_pairs", skeletons.LSP.flip_pairs[1:])


PACKAGE = [mirrored_about_another_axis, a_pair_forgotten]


def outline(box_xywh, image_hw, rotation_deg, padding=1.25, shape=lambda H, W: W / H, sign=1, order=(0, 1, 2, 3)):
    x, y, w, h = box_xywh
    H, W = image_hw
    width = padding * max(w, h * shape(H, W))
    angle = sign * np.deg2rad(rotation_deg)
    right, down = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) * width / W
    steps = np.array([[-W, -H], [W, -H], [W, H], [-W, H]]) / 2
    return (np.array([x + w / 2, y + h / 2]) + steps @ np.array([right, down]))[list(order)]


RIGHT = {"09.1": [outline], "09.2": [69]}
WRONG = {
    "09.1": {
        "not padded": lambda *args: outline(*args, padding=1.0),
        "H and W swapped": lambda *args: outline(*args, shape=lambda H, W: H / W),
        "rotated the other way": lambda *args: outline(*args, sign=-1),
        "corners in the other order": lambda *args: outline(*args, order=(0, 3, 2, 1)),
    },
    "09.2": {"a fair coin": 50, "the lower half": 31, "a share": 0.69, "text": "most"},
}

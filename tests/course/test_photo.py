"""A reader's own photo, and the figures that lessons share."""

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest

from lgmpose.course.network_map import add_side_legend, draw_network_map
from lgmpose.course.photo import decoded, upload_button
from lgmpose.course.widgets import STATIC
from lgmpose.errors import UserError


def test_an_uploaded_file_is_rgb():
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[..., 0] = 200  # red
    data = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(decoded(data), picture)
    for broken in (b"", b"no picture"):
        with pytest.raises(UserError, match="JPEG"):
            decoded(broken)


def test_a_stored_page_has_no_button(monkeypatch, capsys):
    monkeypatch.setenv(STATIC, "1")
    upload_button(lambda picture: None)
    assert "button" in capsys.readouterr().out


def test_the_map_names_every_lesson_about_a_part_and_the_legend_all_colours():
    figure = draw_network_map()
    texts = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert all(number in texts for number in ("00", "01", "03", "04", "05", "06", "07", "09"))
    add_side_legend(figure)
    assert len(figure.legends[1].get_texts()) == 5
    plt.close(figure)

"""The lessons' diagrams: every block and every number is drawn where it belongs."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest

from lgmpose.course.diagrams import BLUE, GREY, draw_blocks, draw_table


@pytest.fixture
def axis():
    figure, axis = plt.subplots()
    yield axis
    plt.close(figure)


def test_blocks_stand_in_order_with_their_shapes_and_a_skip(axis):
    blocks = [("map", "C × H × W", GREY), ("convolution", "d × H × W", BLUE), ("sum", "d × H × W", GREY)]
    draw_blocks(axis, blocks, skips=[(0, 2)], title="a chain")
    texts = {text.get_text(): text.get_position()[1] for text in axis.texts if text.get_text()}
    assert [texts[text] for text, _, _ in blocks] == [0, 1, 2] and "C × H × W" in texts
    assert len(axis.patches) == 3
    (skip,) = axis.lines
    assert list(skip.get_ydata()) == pytest.approx([0, 0, 2], abs=0.25)
    assert max(skip.get_xdata()) == 0  # passes the blocks on their left
    low, high = axis.get_ylim()
    assert low > high  # the first block is at the top


def test_a_table_shows_each_number_in_its_row_and_column(axis):
    draw_table(axis, [[0.0, 0.25, 1.0], [0.5, 0.75, 0.125]], decimals=2)
    shown = {text.get_position(): text.get_text() for text in axis.texts}
    assert shown[2, 0] == "1.00" and shown[0, 1] == "0.50" and len(shown) == 6
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1", "2", "3"]

"""What is drawn over an image is where it was found, in the colour of its class, and the rest stays."""

import numpy as np

from evm_deploy.showing.drawing import draw_boxes, draw_classes, draw_mask, pick_colour

GREY = np.full((60, 80, 3), 128, np.uint8)


def test_eighty_classes_have_eighty_colours():
    assert len({pick_colour(index) for index in range(80)}) == 80


def test_classes_colour_their_pixels_and_no_others():
    classes = np.full((60, 80), -1)
    classes[10:20, 30:50] = 2
    drawn = draw_classes(GREY, classes)
    assert np.array_equal(drawn[0, 0], GREY[0, 0])
    assert np.array_equal((drawn != GREY).any(2), classes == 2)
    assert np.allclose(drawn[15, 40], (np.array(pick_colour(2)) + 128) / 2, atol=1)
    assert np.array_equal(draw_classes(GREY, np.full((60, 80), -1)), GREY)
    assert np.array_equal(draw_mask(GREY, classes == 2, 2), drawn)


def test_boxes_have_the_colour_of_their_class_along_their_sides():
    boxes = np.array([[10, 20, 40, 50], [30.4, 30.4, 70.2, 55.1]], np.float32)
    drawn = draw_boxes(GREY, boxes, [3, 5], ["a", "b"])
    assert tuple(drawn[35, 10]) == tuple(drawn[50, 25]) == pick_colour(3)
    assert tuple(drawn[55, 60]) == pick_colour(5)
    assert tuple(drawn[45, 20]) == (128, 128, 128)


def test_boxes_beyond_the_image_and_without_extent_are_drawn_as_far_as_it_goes():
    boxes = np.array([[-20, -20, 300, 300], [5, 5, 5, 5]], np.float32)
    drawn = draw_boxes(GREY, boxes, [0, 1], ["all of it", "ein Übel"])
    assert drawn.shape == GREY.shape
    assert tuple(drawn[5, 5]) == pick_colour(1) or (drawn[4:7, 4:7] != GREY[0, 0]).any()


def test_without_boxes_nothing_is_drawn():
    assert np.array_equal(draw_boxes(GREY, np.zeros((0, 4), np.float32), [], []), GREY)

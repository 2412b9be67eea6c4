"""What the text of a training configuration says of a head, and the names of classes beside it."""

import pytest
import torch

from evm_deploy.errors import CheckpointError
from evm_deploy.models import read_checkpoint
from evm_deploy.models.network import open_checkpoint
from evm_deploy.models.recorded.classes import read_classes

RETINANET = """
model = dict(
    type='RetinaNet',
    neck=dict(type='FPN', start_level=1, add_extra_convs='on_input', num_outs=5),
    bbox_head=dict(
        type='RetinaHead', num_classes=7, stacked_convs=4,
        anchor_generator=dict(type='AnchorGenerator', octave_base_scale=4, scales_per_octave=3,
                              ratios=[0.5, 1.0, 2.0], strides=[8, 16, 32, 64, 128]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[.0, .0, .0, .0], target_stds=[1.0, 1.0, 1.0, 1.0]),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25)),
    train_cfg=dict(pos_weight=-1),
    test_cfg=dict(nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5),
                  max_per_img=100))
"""
MASK_RCNN = """
model = dict(
    type='MaskRCNN',
    neck=dict(type='FPN', num_outs=5),
    rpn_head=dict(
        type='RPNHead', anchor_generator=dict(type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0],
                                              strides=[4, 8, 16, 32, 64]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[1.0, 1.0, 1.0, 1.0])),
    roi_head=dict(
        type='StandardRoIHead',
        bbox_roi_extractor=dict(roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
                                featmap_strides=[4, 8, 16, 32]),
        bbox_head=dict(num_classes=7, bbox_coder=dict(target_stds=[0.1, 0.1, 0.2, 0.2])),
        mask_roi_extractor=dict(roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0))),
    test_cfg=dict(rpn=dict(nms_pre=1000, max_per_img=1000, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0),
                  rcnn=dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100,
                            mask_thr_binary=0.5)))
"""
UPERNET = """
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    decode_head=dict(type='UPerHead', pool_scales=(1, 2, 3, 6), num_classes=13, align_corners=False),
    auxiliary_head=dict(type='FCNHead', num_classes=13), test_cfg=dict(mode='whole'))
"""
TEXTS = {"retinanet": RETINANET, "maskrcnn": MASK_RCNN, "upernet": UPERNET}


@pytest.fixture
def read(golden, tmp_path):
    """Reads a checkpoint of the head with this `meta`."""

    def run(name, **meta):
        path = tmp_path / "weights.pth"
        torch.save({"meta": meta, "state_dict": golden.state_dict(f"{name}_micro")}, path)
        return read_checkpoint(path)

    return run


@pytest.mark.parametrize("name", TEXTS)
def test_the_usual_settings_change_nothing(read, name):
    silent = read(name).config
    assert read(name, cfg=TEXTS[name]).config == silent  # of mmengine
    assert read(name, config=TEXTS[name]).config == silent  # of mmcv
    assert read(name, cfg="model = dict(").config == silent


@pytest.mark.parametrize(
    ("name", "change", "field", "value"),
    [
        ("retinanet", ("score_thr=0.05", "score_thr=0.3"), "detection.least_score", 0.3),
        ("retinanet", ("iou_threshold=0.5", "iou_threshold=0.6"), "detection.most_overlap", 0.6),
        ("retinanet", ("max_per_img=100", "max_per_img=300"), "detection.most", 300),
        ("retinanet", ("nms_pre=1000", "nms_pre=2000"), "detection.most_of_level", 2000),
        ("retinanet", ("octave_base_scale=4", "octave_base_scale=2"), "anchor_scale", 2.0),
        ("retinanet", ("[0.5, 1.0, 2.0]", "[0.4, 1.0, 2.5]"), "ratios", (0.4, 1.0, 2.5)),
        ("retinanet", ("add_extra_convs='on_input'", "add_extra_convs=True"), "pyramid.on_input", True),
        ("maskrcnn", ("max_per_img=1000", "max_per_img=500"), "proposals.most", 500),
        ("maskrcnn", ("iou_threshold=0.7", "iou_threshold=0.8"), "proposals.most_overlap", 0.8),
        ("maskrcnn", ("score_thr=0.05", "score_thr=0.001"), "detection.least_score", 0.001),
    ],
)
def test_numbers_are_taken(read, name, change, field, value):
    found = read(name, cfg=TEXTS[name].replace(*change)).config
    for part in field.split("."):
        found = getattr(found, part)
    assert found == value


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("retinanet", ("score_thr=0.05", "score_thr=5"), "test_cfg.score_thr 5"),
        ("retinanet", ("score_thr=0.05", "score_thr='high'"), "test_cfg.score_thr 'high'"),
        ("retinanet", ("max_per_img=100", "max_per_img=10**9"), None),
        ("retinanet", ("max_per_img=100", "max_per_img=1000000000"), "test_cfg.max_per_img 1000000000"),
        ("retinanet", ("max_per_img=100", "max_per_img=-1"), "test_cfg.max_per_img -1"),
        ("retinanet", ("type='nms'", "type='soft_nms'"), "test_cfg.nms.type 'soft_nms', not 'nms'"),
        ("retinanet", ("use_sigmoid=True", "use_sigmoid=False"), "loss_cls.use_sigmoid False, not True"),
        ("retinanet", ("[8, 16, 32, 64, 128]", "[4, 8, 16, 32, 64]"), "strides [4, 8, 16, 32, 64], not [8, 16, 32, 64"),
        ("retinanet", ("'on_input'", "'on_output'"), "neck.add_extra_convs 'on_output', not 'on_input' or True"),
        ("retinanet", ("[0.5, 1.0, 2.0]", "[0.5, 1.0]"), "9 outputs, which are no multiple of 2 ratios"),
        ("retinanet", ("scales_per_octave=3", "scales_per_octave=2"), "scales_per_octave 2, not 3"),
        ("retinanet", ("[0.5, 1.0, 2.0]", "[]"), "ratios []"),
        ("retinanet", ("target_stds=[1.0,", "target_stds=[0.1,"), "target_stds [0.1, 1.0, 1.0, 1.0], not [1, 1, 1, 1]"),
        ("maskrcnn", ("scales=[8]", "scales=[4]"), "anchor_generator.scales [4], not [8]"),
        ("maskrcnn", ("sampling_ratio=0", "sampling_ratio=2"), "roi_layer.sampling_ratio 2, not 0"),
        ("maskrcnn", ("[0.1, 0.1, 0.2, 0.2]", "[0.05, 0.05, 0.1, 0.1]"), "target_stds [0.05, 0.05, 0.1, 0.1], not"),
        ("maskrcnn", ("'StandardRoIHead'", "'PointRendRoIHead'"), "roi_head.type 'PointRendRoIHead'"),
        ("upernet", ("align_corners=False", "align_corners=True"), "decode_head.align_corners True, not False"),
        ("upernet", ("(1, 2, 3, 6)", "(1, 2, 4, 8)"), "decode_head.pool_scales [1, 2, 4, 8], not [1, 2, 3, 6]"),
        ("upernet", ("mode='whole'", "mode='slide'"), "test_cfg.mode 'slide', not 'whole'"),
    ],
)
def test_what_a_head_cannot_do_is_refused(read, name, change, words):
    text = TEXTS[name].replace(*change)
    assert text != TEXTS[name]
    if words is None:  # an expression, which is not read
        assert read(name, cfg=text).config == read(name).config
        return
    with pytest.raises(CheckpointError) as caught:
        read(name, cfg=text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# Names of classes

NAMES = [f"class {i}" for i in range(7)]


@pytest.mark.parametrize(
    "meta", [{"dataset_meta": {"classes": NAMES}}, {"CLASSES": tuple(NAMES)}, {"dataset_meta": {"CLASSES": NAMES}}]
)
def test_names_of_classes(read, tmp_path, meta):
    assert read("retinanet", **meta).class_names == tuple(NAMES)
    network = open_checkpoint(tmp_path / "weights.pth")
    assert (network.class_names, network.notes) == (tuple(NAMES), ())


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (NAMES[:6], "the file names 6 classes, and the network has 7"),
        ("cat", "the file names 1 classes"),
        ([*NAMES[:6], "a\nb"], "no texts of a line each"),
        ([*NAMES[:6], 7], "no texts of a line each"),
        ({"cat": 0}, "the file names 0 classes"),
    ],
)
def test_names_that_cannot_be_right_are_dropped(read, tmp_path, said, words):
    checkpoint = read("retinanet", dataset_meta={"classes": said})
    assert checkpoint.class_names is None
    assert words in checkpoint.remark
    assert checkpoint.remark in open_checkpoint(tmp_path / "weights.pth").notes


def test_one_name_is_of_one_class():
    assert read_classes({"meta": {"CLASSES": "cat"}}, 1) == (("cat",), None)
    assert read_classes({"meta": {"CLASSES": None}}, 1) == (None, None)
    assert read_classes([], 1) == (None, None)

"""Checkpoints of detectors and segmenters: what of them is read, and what is refused by name."""

import re

import pytest
import torch

from evm_deploy.errors import CheckpointError, OptionError
from evm_deploy.models import ModelConfig, load, open_file, read_checkpoint
from evm_deploy.models.heads.mask_rcnn.detect import find_instances
from evm_deploy.models.last_steps import ImageSize
from evm_deploy.models.vmamba.config import VMambaConfig


@pytest.fixture
def save(tmp_path):
    def write(content):
        path = tmp_path / "weights.pth"
        torch.save(content, path)
        return path

    return write


def refusal(path, **options) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def are_equal(model, tensors) -> bool:
    state = model.state_dict()
    return state.keys() == tensors.keys() and all(torch.equal(state[name], each) for name, each in tensors.items())


@pytest.mark.parametrize("prefix", ["", "module.", "student.", "student.module."])
def test_the_whole_network_is_read(golden, save, prefix):
    tensors = golden.state_dict("retinanet_micro")
    path = save({"state_dict": {prefix + name: tensor for name, tensor in tensors.items()}, "meta": {"epoch": 12}})
    checkpoint = read_checkpoint(path)
    assert (checkpoint.family.title, checkpoint.source_key, checkpoint.ignored) == ("RetinaNet", "state_dict", ())
    assert are_equal(checkpoint.build(), tensors)
    assert open_file(path).list_networks() == {"state_dict": "state_dict (epoch 12)"}


def test_the_backbone_alone_has_a_key(golden, save):
    tensors = golden.state_dict("retinanet_micro")
    backbone = {name.removeprefix("backbone."): each for name, each in tensors.items() if name.startswith("backbone.")}
    assert are_equal(load(save({"state_dict": tensors}), key="state_dict.backbone"), backbone)
    assert are_equal(load(save(tensors), key="backbone"), backbone)
    assert are_equal(load(save(tensors)), tensors)


def test_a_teacher_and_a_student_are_not_chosen_between(golden, save):
    tensors = golden.state_dict("retinanet_micro")
    both = {f"student.{name}": each for name, each in tensors.items()}
    both |= {f"teacher.{name}": each + 1 for name, each in tensors.items()}
    assert "--key state_dict.student or --key state_dict.teacher" in refusal(save({"state_dict": both}))
    assert are_equal(load(save({"state_dict": both}), key="state_dict.student"), tensors)


def test_averages_of_mmengine(golden, save):
    tensors = golden.state_dict("retinanet_micro")
    others = {f"module.{name}": each + 1 for name, each in tensors.items()}
    path = save({"state_dict": tensors, "ema_state_dict": others | {"steps": torch.tensor(3)}})
    assert "state_dict (the averaged weights in mmengine)" in refusal(path)
    assert are_equal(load(path, key="state_dict"), tensors)


def test_an_auxiliary_head_is_ignored_and_said(golden, upernet, save):
    checkpoint = read_checkpoint(save({"state_dict": golden.state_dict("upernet_micro")}))
    assert are_equal(checkpoint.build(), upernet.tensors("micro"))
    assert len(checkpoint.ignored) == 8
    assert "8 entries (auxiliary_head.conv_seg.weight, " in checkpoint.describe_ignored()


def test_what_only_training_needs_is_ignored_and_said(golden, save):
    extra = {"auxiliary_head.conv_seg.weight": torch.ones(2), "data_preprocessor.mean": torch.ones(3, 1, 1)}
    checkpoint = read_checkpoint(save({"state_dict": golden.state_dict("retinanet_micro") | extra}))
    assert checkpoint.ignored == tuple(extra)
    assert are_equal(checkpoint.build(), golden.state_dict("retinanet_micro"))


BACKBONES = {
    "v0": VMambaConfig((16, 32, 48, 64), (1, 1, 2, 1), num_classes=None),
    "v2": VMambaConfig(
        (16, 32, 48, 64), (1, 1, 1, 1), d_state=1, gate=False, conv_bias=False, mlp=2, stem="3x3 twice",
        downsample="3x3", num_classes=None,
    ),
    "some stages": ModelConfig((16, 24, 32, 40), (1, 1, 1, 1), num_classes=None, out_indices=(1, 2, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone(retinanet, save, name):
    from evm_deploy.models.heads.fpn import PyramidConfig
    from evm_deploy.models.heads.retinanet.config import RetinaNetConfig

    title = "VMamba" if name.startswith("v") else "EfficientVMamba"
    for pyramid in (PyramidConfig(24, 3, 2), PyramidConfig(24, 2, 1, on_input=False), PyramidConfig(24, 1)):
        config = RetinaNetConfig(title, BACKBONES[name], pyramid, 5, 6, 20, 1, 2)
        model = retinanet.row.network(config).eval()
        checkpoint = read_checkpoint(save({"state_dict": model.state_dict()}))
        assert checkpoint.config == config
        image = torch.randn(1, 3, 70, 90)
        with torch.no_grad():
            for found, expected in zip(checkpoint.build()(image), model(image), strict=True):
                torch.testing.assert_close(found, expected)
    assert config.strides == [32]


def test_a_scan_that_the_backbone_has_not(golden, retinanet, save):
    from evm_deploy.models.heads.fpn import PyramidConfig
    from evm_deploy.models.heads.retinanet.config import RetinaNetConfig

    path = save({"state_dict": golden.state_dict("retinanet_micro")})
    assert load(path, scan="ss2d").config.backbone.scan == "ss2d"
    config = RetinaNetConfig("VMamba", BACKBONES["v0"], PyramidConfig(24, 3, 2), 5, 6, 20, 1, 2)
    with pytest.raises(OptionError, match="VMamba has no scan"):
        load(save({"state_dict": retinanet.row.network(config).state_dict()}), scan="ss2d")


def rename(pattern, new):
    return lambda tensors: {re.sub(pattern, new, name): each for name, each in tensors.items()}


def drop(pattern):
    return lambda tensors: {name: each for name, each in tensors.items() if not re.search(pattern, name)}


def add(**shapes):
    return lambda tensors: tensors | {name.replace("__", "."): torch.ones(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("retinanet", add(bbox_head__cls_convs__0__gn__weight=24),
         "RetinaNet, but it has normalisation in its head (bbox_head.cls_convs.0.gn.weight)"),
        ("retinanet", add(neck__fpn_convs__0__bn__weight=24), "normalisation in its head (neck.fpn_convs.0.bn.weight)"),
        ("retinanet", add(roi_head__bbox_head__fc_cls__bias=8), "the tensors of another head too"),
        ("retinanet", drop(r"^neck"), "its pyramid takes 0 maps, and its backbone gives 4"),
        ("retinanet", drop(r"retina_reg"), "it has no bbox_head.retina_reg.weight"),
        ("retinanet", drop(r"cls_convs\.1\."), "4 unexpected (bbox_head.cls_convs.2.conv.weight; "),
        ("retinanet", drop(r"outnorm"),
         "its backbone is no EfficientVMamba or VMamba that gives feature maps: 1 missing (outnorm0.weight)"),
        ("retinanet", drop(r"layers\.2\.1\.se\.conv_reduce"),
         "its backbone is no EfficientVMamba or VMamba that gives feature maps: 2 missing (layers.2.1.se.conv_reduce."),
        ("retinanet", drop(r"^backbone"), "its backbone is no EfficientVMamba or VMamba"),
        ("retinanet", add(bbox_head__retina_cls__weight=(64, 24, 3, 3)), "64 outputs, which are no multiple of 9"),
        ("retinanet", add(bbox_head__retina_reg__weight=(8, 24, 3, 3)), "2 outputs, which are no multiple of 3"),
        ("retinanet", add(bbox_head__retina_reg__weight=(36, 24)), "no tensor of 4 dimensions"),
        ("retinanet", add(bbox_head__retina_cls__bias=62), "1 of the wrong shape (bbox_head.retina_cls.bias is (62,)"),
        ("retinanet", add(bbox_head__scales=5), "1 unexpected (bbox_head.scales)"),
        ("retinanet", rename(r"^backbone\.patch_embed\.0", "backbone.conv1"), "its backbone is no"),
        ("upernet", drop(r"psp_modules|bottleneck|lateral|fpn"), "UperNet, but its decode head has no pooled context"),
        ("upernet", lambda t: add(decode_head__convs__0__conv__weight=4)(drop(r"psp_mod")(t)), "it is an FCN's"),
        ("upernet", rename(r"^decode_head\.", "decode_head.0."), "several decode heads"),
        ("upernet", add(decode_head__conv_seg__weight=(1, 24, 1, 1)), "it has one output, a foreground by a threshold"),
        ("upernet", drop(r"psp_modules\.3"), "it pools to 3 sizes, not to 1, 2, 3, 6"),
        ("upernet", drop(r"lateral_convs\.2"), "its head takes 3 maps, and its backbone gives 4"),
        ("upernet", rename(r"fpn_convs\.0\.bn", "fpn_convs.0.gn"), "another normalisation than BatchNorm in its head"),
        ("upernet", add(neck__lateral_convs__0__conv__weight=4), "the tensors of another head, or a neck, too"),
        ("maskrcnn", rename(r"^roi_head\.bbox_head\.", "roi_head.bbox_head.0."), "Mask R-CNN, but it has a cascade of"),
        ("maskrcnn", add(roi_head__mask_iou_head__fc_mask_iou__weight=4), "it has a head that scores masks"),
        ("maskrcnn", add(roi_head__mask_head__convs__0__bn__weight=4), "normalisation in its head"),
        ("maskrcnn", add(roi_head__bbox_head__shared_convs__0__conv__weight=4), "more in its box head"),
        ("maskrcnn", drop(r"mask_head"), "it has no mask head: it is a Faster R-CNN"),
        ("maskrcnn", drop(r"^rpn_head"), "it has no rpn_head.rpn_cls.weight"),
        ("maskrcnn", add(rpn_head__rpn_cls__weight=(6, 24, 1, 1)), "its proposals have 6 scores in a cell, not 3"),
        ("maskrcnn", add(roi_head__bbox_head__fc_cls__weight=(7, 48)), "its scores are of 6 and the background"),
        ("maskrcnn", add(roi_head__mask_head__conv_logits__weight=(5, 24, 1, 1)), "its mask head has 5 classes"),
        ("maskrcnn", add(bbox_head__retina_cls__bias=4), "the tensors of another head too"),
    ],
)  # fmt: skip
def test_refused_by_name(golden, save, name, change, words):
    said = refusal(save({"state_dict": change(golden.state_dict(f"{name}_micro"))}))
    assert words in said
    assert ("Take its backbone alone: --key state_dict.backbone" in said) == ("its backbone is no" not in words)


def test_a_vim_gives_no_maps(golden, save):
    head = {n: t for n, t in golden.state_dict("retinanet_micro").items() if not n.startswith("backbone.")}
    vim = {f"backbone.{name}": tensor for name, tensor in golden.state_dict("vim_micro").items()}
    assert "its backbone is a Vim, which gives no feature maps" in refusal(save({"state_dict": head | vim}))


def test_values_are_checked_as_elsewhere(golden, save):
    tensors = golden.state_dict("retinanet_micro")
    tensors["bbox_head.retina_cls.bias"][3] = float("nan")
    assert "bbox_head.retina_cls.bias has values that are not finite" in refusal(save({"state_dict": tensors}))
    tensors["bbox_head.retina_cls.bias"] = torch.ones(63).half()
    assert load(save({"state_dict": tensors})).bbox_head.retina_cls.bias.dtype == torch.float32


def test_boxes_and_masks_that_all_classes_share(golden, save):
    tensors = golden.state_dict("maskrcnn_micro")
    for name, rows in (("bbox_head.fc_reg", 4), ("mask_head.conv_logits", 1)):
        for kind in ("weight", "bias"):
            tensors[f"roi_head.{name}.{kind}"] = tensors[f"roi_head.{name}.{kind}"][:rows].clone()
    network = load(save({"state_dict": tensors}))
    assert (network.config.num_classes, network.config.box_classes, network.config.mask_classes) == (7, 1, 1)
    size = ImageSize(torch.tensor([96.0, 64.0]), torch.ones(2))
    with torch.no_grad():
        found = find_instances(network, network(golden.image(64, 96)), size)
    assert found.masks.shape == (len(found.detections.boxes), 28, 28)
    assert len(set(found.detections.labels.tolist())) > 1

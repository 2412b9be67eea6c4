"""What follows a backbone: detectors and segmenters of mmdetection and mmsegmentation, in plain PyTorch."""

from evm_deploy.models.family import Family
from evm_deploy.models.heads import mask_rcnn, retinanet, upernet

# A head's row is that of a family whose networks hold a backbone of another family.
HEADS: tuple[Family, ...] = (retinanet.FAMILY, mask_rcnn.FAMILY, upernet.FAMILY)

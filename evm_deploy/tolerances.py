"""Every tolerance of the tests and of the parity gate, in one place, each with its reason."""

from evm_deploy.errors import BundleError
from evm_deploy.manifest import Manifest

# The goldens hold float32 outputs of the authors' network; other float32 orders of summation agree to about 1e-5.
GOLDEN_LOGITS = 5e-5
GOLDEN_SCAN = 1e-5
# The outputs of detectors and segmenters, as a share of the largest; measured 7e-7.
GOLDEN_HEAD = 1e-4
# Intersection over union of a mask with the golden one: a pixel may lie within rounding of one half.
GOLDEN_MASK = 0.999
# A Core ML program in float16 rounds after every operation; T, S and B differ from the goldens by 1e-3 to 2e-3.
GOLDEN_COREML_FP16 = 5e-3

# One scan against float64, relative to the largest |y|: a few units in the last place of float32 per token.
KERNEL_RELATIVE = 2e-6
# float16 in and out, the recurrence float32: half a unit in the last place of float16 is 4.9e-4.
FP16_IO_RELATIVE = 1e-3

# Two calls of one network on the same input, as a share of the largest output: where a tensor lies in memory decides
# the order of summation. Measured: 2e-6.
REPEATED = 1e-4

# A level, of 255, of a pixel of a JPEG or lossy WebP by another decoder than Pillow's: the standards let decoders round
# the transform, and interpolate the colours between samples, as they like. Measured: 0 with libjpeg-turbo 2.1 and in
# Chromium 156.
DECODED_LEVELS = 2

# The share of the best class, from two bundles of one checkpoint for one image: float16 moves a logit by about 1e-3.
PREDICTED_SHARE = 1e-3

# One operation, or a small network, of a program evaluated op by op against PyTorch: another order of summation, and in
# float16 about ten roundings to 11 bits.
MIL_OPERATION, MIL_FP32, MIL_FP16 = 2e-6, 1e-5, 4e-3

# An exported artifact against PyTorch, as a share of the largest |output| (at least of 1). Dropping the scan of T moves
# its logits by 1.6e-2 of their scale, losing the carry at mid-sequence by 2.9e-3: a gate has to stay below that.
# fp32: only the order of summation differs; measured 1e-6.
# fp16: weights and activations are rounded to 11 bits; measured 6e-4 on T, S and B with the golden weights.
PARITY = {"fp32": 1e-4, "fp16": 2.5e-3}

# A deep network loses more to float16. PyTorch shows how much, rounding the result of every operation: 4.1e-3 of Vim-T,
# whose Core ML program is off by 4.7e-3; 9e-4 of T, 1.0e-3 of VMamba-T. An artifact, which rounds elsewhere, may be off
# by twice as much where that is above PARITY, and by FP16_MOST at most. Recurrences are compared by themselves.
FP16_SHARE, FP16_MOST = 2.0, 1e-2

# The recurrence of each scan of an exported graph, D u left out, against PyTorch, as a share of its largest |y|. One
# that is lost changes it by about 1, whatever the logits show of it. Measured on digits: 6e-7, and 9e-4 in fp16.
RECURRENCE = {"fp32": 1e-3, "fp16": 5e-2}

# Rounding values to 8 bits is a loss that was asked for; measured 2e-2 on T, S and B with the golden weights. A broken
# scan would hide in it, so that is looked for before: the rewritten, equalised float graph is held to fp32's.
ROUNDED = {"int8": 2.5e-1}

# The same network on integers: the cosine of its scores with those of the float one. At least 0.9992 for T, S and B
# with the golden weights, on photographs.
INT8_COSINE = 0.995

# What storing the weights in fewer bits may add to that. It is a loss that was asked for, and far above what a dropped
# scan does: `export` therefore verifies the same program with its weights as they are first. Measured on T with the
# golden weights, normally distributed, which is the worst case for few values: 1.2e-2, 4.8e-2 and 1.7e-1.
COMPRESSION = {"float": 0.0, "int8": 5e-2, "palette6": 1.5e-1, "palette4": 5e-1}

# A scan stays float32 where float16 would change its recurrence by more than this share of the largest |y|.
RECURRENCE_FP16 = 1e-2


def choose_fp16_tolerance(cost: float) -> float:
    """That of a network which loses `cost`, a relative error, by being rounded to float16."""
    return min(max(PARITY["fp16"], FP16_SHARE * cost), FP16_MOST)


def find_tolerance(manifest: Manifest) -> float:
    """The greatest relative error allowed for a bundle's outputs. Raises BundleError for an unknown precision."""
    facts = manifest.build or {}
    weights = facts.get("weights", "float")
    precisions = PARITY | ROUNDED
    for what, name, known in (("precision", manifest.precision, precisions), ("form of weights", weights, COMPRESSION)):
        if not isinstance(name, str) or name not in known:
            raise BundleError(f"{what} {name!r} is not known here.", "use a newer evm-deploy.")
    least = precisions[manifest.precision]
    chosen = facts.get("tolerance", least) if manifest.precision == "fp16" else least
    if not isinstance(chosen, float) or not least <= chosen <= max(least, FP16_MOST):
        raise BundleError(f"tolerance {chosen!r} is not one of {manifest.precision}.", "export the model again.")
    return chosen + COMPRESSION[weights]

// From an image to a model's input, as the manifest says.
#pragma once

#include "bundle.hpp"

namespace evm {

// Throws Error: not an image, or the resized one would have more than 64 megapixels.
Image resized_and_cropped(const Image& image, const Steps& steps);

// float32 (1, 3, h, w), or uint8 (1, h, w, 3) where the model is baked.
Bytes model_input(const Image& image, const Steps& steps);

}  // namespace evm

// From an image to a model's input, as the manifest says.
#pragma once

#include "bundle.hpp"

namespace evm {

// Where an image of (height, width) lies in the input of a detector or segmenter: in the content, at the upper left.
struct Placement {
  int height = 0, width = 0, content_height = 0, content_width = 0;
};

Placement place(int height, int width, const Steps& steps);

// Throws Error: not an image, or the resized one would have more than 64 megapixels.
Image resized_and_cropped(const Image& image, const Steps& steps);

// The lengths of the input for an image.
std::vector<int64_t> input_shape(const Image& image, const Steps& steps);

// float32 (1, 3, h, w), or uint8 (1, h, w, 3) where the model is baked.
Bytes model_input(const Image& image, const Steps& steps);

}  // namespace evm

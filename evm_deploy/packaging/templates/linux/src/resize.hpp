// Pillow's resize of RGB images, to the bit: first each row, then each column.
#pragma once

#include "evm_deploy.hpp"

namespace evm {

enum class Interpolation { nearest, bilinear, bicubic, lanczos };  // all but the first with antialiasing

Image resized(const Image& image, int width, int height, Interpolation interpolation);

}  // namespace evm

// Pillow's resize of RGB images, to the bit: first each row, then each column.
#pragma once

#include "evm_deploy.hpp"

namespace evm {

// Those between the first and the last have antialiasing. The last is OpenCV's, to the bit.
enum class Interpolation { nearest, bilinear, bicubic, lanczos, opencv_bilinear };

Image resized(const Image& image, int width, int height, Interpolation interpolation);

}  // namespace evm

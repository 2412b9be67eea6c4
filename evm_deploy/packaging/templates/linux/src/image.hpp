// What the decoders of image files share.
#pragma once

#include "evm_deploy.hpp"

namespace evm {

// Black, of these sides. Throws Error: no pixels, or more than 64 megapixels.
Image blank(uint64_t width, uint64_t height);

// EXIF's orientation, 1 to 8, in such a block (a TIFF file without pixels); 1 where it has none.
int orientation_of(const uint8_t* tiff, size_t size);

Image decode_png(const Bytes& data, int& orientation);
Image decode_jpeg(const Bytes& data, int& orientation);

}  // namespace evm

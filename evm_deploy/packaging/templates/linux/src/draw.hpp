// What was found over the image, and PNG files.
#pragma once

#include <string>

#include "evm_deploy.hpp"

namespace evm {

// The image, in which this was found, under the colours of the classes of pixels and of masks, and boxes, the best over
// the others. Throws Error: an image of another size.
Image draw(const Findings& findings, const Image& image);

// Throws Error: the file cannot be written.
void write_png(const std::string& path, const Image& image);

// The class of each pixel, as levels of grey: of 16 bits where there are more than 256 classes.
void write_classes(const std::string& path, const Findings& findings);

}  // namespace evm

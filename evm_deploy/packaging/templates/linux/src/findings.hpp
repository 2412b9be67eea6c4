// From the outputs of a detector or segmenter to what was found, in the pixels of the image.
#pragma once

#include "evm_deploy.hpp"
#include "preprocess.hpp"
#include "runtime.hpp"

namespace evm {

// Boxes (n, 4) as corners, scores (n), classes (n) and, of instances, masks (n, h, w). Throws Error: they are none.
Findings locate_things(const std::vector<Output>& found, const Placement& placement,
                       const std::vector<std::string>& labels);

// A map of the classes of pixels, (1, h, w). Throws Error: it is none.
Findings locate_classes(const std::vector<Output>& found, const Placement& placement,
                        const std::vector<std::string>& labels);

// How far outputs are from the expected ones, as a share: of values; of the scores of detections that one of the two
// alone has; of pixels that have another class. The tolerance becomes the most that it may be. Throws Error: they
// cannot be compared.
double compare_numbers(const std::vector<Output>& found, const std::vector<Output>& expected, double& tolerance);
double compare_things(const std::vector<Output>& found, const std::vector<Output>& expected, double& tolerance);
double compare_classes(const std::vector<Output>& found, const std::vector<Output>& expected, double& tolerance);

}  // namespace evm

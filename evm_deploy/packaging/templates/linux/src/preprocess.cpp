#include "preprocess.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace evm {
namespace {

constexpr int64_t kMostPixels = 64000000;

struct Size {
  int64_t height = 0, width = 0;
};

// Of the image before the crop, and before a letterbox pads it.
Size resized_size(int64_t h, int64_t w, const Steps& steps) {
  const int64_t height = steps.canvas_height, width = steps.canvas_width;
  switch (steps.resize) {
    case Resize::squash: return {height, width};
    case Resize::cover:
      return width * h >= height * w ? Size{width * h / w, width} : Size{height, height * w / h};
    case Resize::letterbox:
      return width * h <= height * w ? Size{std::max(int64_t{1}, (2 * width * h + w) / (2 * w)), width}
                                     : Size{height, std::max(int64_t{1}, (2 * height * w + h) / (2 * h))};
  }
  throw Error("an unknown resize");
}

int64_t half_to_even(int64_t difference) {  // of a margin, rounded as Python rounds
  const int64_t low = difference / 2;
  return difference % 2 && low % 2 ? low + 1 : low;
}

}  // namespace

Image resized_and_cropped(const Image& image, const Steps& steps) {
  const int64_t h = image.height, w = image.width;
  if (h < 1 || w < 1 || h * w > kMostPixels || image.rgb.size() != static_cast<size_t>(h * w * 3))
    throw Error("not an image of at most 64 megapixels");
  const Size size = resized_size(h, w, steps);
  const int64_t height = std::max(size.height, int64_t{steps.canvas_height});
  const int64_t width = std::max(size.width, int64_t{steps.canvas_width});
  if (std::max(height, h) * width > kMostPixels) throw Error("the image is too narrow: crop it first");
  const Image part = resized(image, static_cast<int>(size.width), static_cast<int>(size.height), steps.interpolation);
  const auto pixels = static_cast<size_t>(steps.height) * static_cast<size_t>(steps.width);
  Image out{steps.width, steps.height, Bytes(pixels * 3, steps.fill)};
  // Where the crop begins in the resized image; less than 0 where it begins in a letterbox's margin.
  const int64_t top = half_to_even(height - steps.height) - half_to_even(height - size.height);
  const int64_t left = half_to_even(width - steps.width) - half_to_even(width - size.width);
  const int64_t first = std::max(left, int64_t{0}), count = std::min(left + steps.width, size.width) - first;
  for (int64_t y = 0; y < steps.height && count > 0; ++y) {
    if (top + y < 0 || top + y >= size.height) continue;
    const auto from = static_cast<size_t>((top + y) * size.width + first) * 3;
    const auto to = static_cast<size_t>(y * steps.width + first - left) * 3;
    std::memcpy(out.rgb.data() + to, part.rgb.data() + from, static_cast<size_t>(count) * 3);
  }
  if (steps.bgr)
    for (size_t i = 0; i < pixels; ++i) std::swap(out.rgb[3 * i], out.rgb[3 * i + 2]);
  return out;
}

Bytes model_input(const Image& image, const Steps& steps) {
  Image cropped = resized_and_cropped(image, steps);
  if (steps.baked) return std::move(cropped.rgb);
  const size_t area = cropped.rgb.size() / 3;
  std::vector<float> values(area * 3);
  for (size_t c = 0; c < 3; ++c)
    for (size_t i = 0; i < area; ++i)
      values[c * area + i] = (static_cast<float>(cropped.rgb[i * 3 + c]) / 255.0f - steps.mean[c]) / steps.std[c];
  Bytes bytes(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

}  // namespace evm

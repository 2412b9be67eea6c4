#include "preprocess.hpp"

#include <algorithm>
#include <cmath>
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
    case Resize::fit: break;  // nothing is cropped
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

void check(const Image& image) {
  const int64_t h = image.height, w = image.width;
  if (h < 1 || w < 1 || h * w > kMostPixels || image.rgb.size() != static_cast<size_t>(h * w * 3))
    throw Error("not an image of at most 64 megapixels");
}

void order_channels(Image& image, const Steps& steps) {
  if (steps.bgr)
    for (size_t i = 0; i + 2 < image.rgb.size(); i += 3) std::swap(image.rgb[i], image.rgb[i + 2]);
}

Image fitted(const Image& image, const Steps& steps) {
  check(image);
  const Placement placement = place(image.height, image.width, steps);
  Image out = resized(image, placement.content_width, placement.content_height, steps.interpolation);
  order_channels(out, steps);
  return out;
}

}  // namespace

Image resized_and_cropped(const Image& image, const Steps& steps) {
  check(image);
  const int64_t h = image.height, w = image.width;
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
  order_channels(out, steps);
  return out;
}

Placement place(int height, int width, const Steps& steps) {
  if (steps.baked) return {height, width, height, width};
  const bool turned = height > width;
  const int rows = steps.long_side ? (turned ? steps.long_side : steps.short_side) : steps.height;
  const int columns = steps.long_side ? (turned ? steps.short_side : steps.long_side) : steps.width;
  const double factor = std::min(static_cast<double>(rows) / height, static_cast<double>(columns) / width);
  const auto side = [&](int old) { return std::max(1, static_cast<int>(std::floor(old * factor + 0.5))); };
  return {height, width, side(height), side(width)};
}

std::vector<int64_t> input_shape(const Image& image, const Steps& steps) {
  int64_t height = steps.height, width = steps.width;
  if (steps.long_side || (steps.resize == Resize::fit && steps.baked)) {
    const Placement placement = place(image.height, image.width, steps);
    height = placement.content_height;
    width = placement.content_width;
  }
  if (steps.baked) return {1, height, width, 3};
  return {1, 3, height, width};
}

Bytes model_input(const Image& image, const Steps& steps) {
  Image cropped = steps.resize == Resize::fit ? fitted(image, steps) : resized_and_cropped(image, steps);
  if (steps.baked) return std::move(cropped.rgb);
  const std::vector<int64_t> shape = input_shape(image, steps);
  const auto height = static_cast<size_t>(shape[2]), width = static_cast<size_t>(shape[3]), area = height * width;
  const auto rows = static_cast<size_t>(cropped.height), columns = static_cast<size_t>(cropped.width);
  std::vector<float> values(area * 3);  // zeros where a fitted image does not reach
  for (size_t c = 0; c < 3; ++c)
    for (size_t y = 0; y < rows; ++y)
      for (size_t x = 0; x < columns; ++x) {
        const auto level = static_cast<float>(cropped.rgb[(y * columns + x) * 3 + c]);
        values[c * area + y * width + x] = (level / 255.0f - steps.mean[c]) / steps.std[c];
      }
  Bytes bytes(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

}  // namespace evm

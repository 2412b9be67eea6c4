#include "preprocess.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace evm {
namespace {

constexpr int kBits = 22;  // of the fraction of a weight: 32, less 8 of a pixel and 2 for what bicubic overshoots
constexpr int64_t kMostPixels = 64000000;

// What each pixel of a line is made of: `count` pixels from `first` on, with weights in fixed point.
struct Taps {
  int first = 0, count = 0;
  const int32_t* weights = nullptr;
};

struct Line {
  std::vector<Taps> taps;
  std::vector<int32_t> weights;
};

double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

Line line(int from, int to) {
  const double scale = static_cast<double>(from) / to, wide = std::max(scale, 1.0), reach = 2.0 * wide;
  const auto most = static_cast<size_t>(std::ceil(reach)) * 2 + 1;
  Line found;
  found.taps.resize(static_cast<size_t>(to));
  found.weights.assign(most * static_cast<size_t>(to), 0);
  std::vector<double> exact(most);
  for (int at = 0; at < to; ++at) {
    const double centre = (at + 0.5) * scale, by = 1.0 / wide;
    const int first = std::max(static_cast<int>(centre - reach + 0.5), 0);
    const int count = std::min(static_cast<int>(centre + reach + 0.5), from) - first;
    double sum = 0;
    for (int i = 0; i < count; ++i) sum += exact[static_cast<size_t>(i)] = bicubic((i + first - centre + 0.5) * by);
    int32_t* weights = found.weights.data() + most * static_cast<size_t>(at);
    for (int i = 0; i < count; ++i) {
      const double weight = sum != 0 ? exact[static_cast<size_t>(i)] / sum : exact[static_cast<size_t>(i)];
      weights[i] = static_cast<int32_t>((weight < 0 ? -0.5 : 0.5) + weight * (1 << kBits));
    }
    found.taps[static_cast<size_t>(at)] = {first, count, weights};
  }
  return found;
}

uint8_t pixel(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kBits, 0, 255)); }

Image wider(const Image& image, int width) {
  if (image.width == width) return image;
  Image out{width, image.height, Bytes(static_cast<size_t>(width) * static_cast<size_t>(image.height) * 3)};
  const Line taps = line(image.width, width);
  uint8_t* to = out.rgb.data();
  for (int y = 0; y < image.height; ++y) {
    const uint8_t* row = image.rgb.data() + static_cast<size_t>(y) * static_cast<size_t>(image.width) * 3;
    for (const Taps& tap : taps.taps)
      for (int c = 0; c < 3; ++c) {
        int32_t sum = 1 << (kBits - 1);
        for (int i = 0; i < tap.count; ++i) sum += row[(tap.first + i) * 3 + c] * tap.weights[i];
        *to++ = pixel(sum);
      }
  }
  return out;
}

Image taller(const Image& image, int height) {
  if (image.height == height) return image;
  const size_t row = static_cast<size_t>(image.width) * 3;
  Image out{image.width, height, Bytes(row * static_cast<size_t>(height))};
  const Line taps = line(image.height, height);
  std::vector<int32_t> sums(row);
  uint8_t* to = out.rgb.data();
  for (const Taps& tap : taps.taps) {
    std::fill(sums.begin(), sums.end(), 1 << (kBits - 1));
    for (int i = 0; i < tap.count; ++i) {
      const uint8_t* from = image.rgb.data() + static_cast<size_t>(tap.first + i) * row;
      for (size_t x = 0; x < row; ++x) sums[x] += from[x] * tap.weights[i];
    }
    for (const int32_t sum : sums) *to++ = pixel(sum);
  }
  return out;
}

int half_to_even(int difference) {  // of a margin, rounded as Python rounds
  const int low = difference / 2;
  return difference % 2 && low % 2 ? low + 1 : low;
}

}  // namespace

Image resized_and_cropped(const Image& image, const Steps& steps) {
  const int64_t h = image.height, w = image.width;
  if (h < 1 || w < 1 || h * w > kMostPixels || image.rgb.size() != static_cast<size_t>(h * w * 3))
    throw Error("not an image of at most 64 megapixels");
  int64_t height = steps.cover_height, width = steps.cover_width;
  if (width * h >= height * w) height = width * h / w;  // the width is what the cover stretches more
  else width = height * w / h;
  if (height * width > kMostPixels) throw Error("the image is too narrow: crop it first");
  const Image resized = taller(wider(image, static_cast<int>(width)), static_cast<int>(height));
  const int top = half_to_even(resized.height - steps.height), left = half_to_even(resized.width - steps.width);
  const size_t row = static_cast<size_t>(steps.width) * 3;
  Image out{steps.width, steps.height, Bytes(row * static_cast<size_t>(steps.height))};
  for (int y = 0; y < steps.height; ++y) {
    const size_t from = (static_cast<size_t>(top + y) * static_cast<size_t>(resized.width) + static_cast<size_t>(left)) * 3;
    std::memcpy(out.rgb.data() + static_cast<size_t>(y) * row, resized.rgb.data() + from, row);
  }
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

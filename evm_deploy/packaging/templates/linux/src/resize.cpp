#include "resize.hpp"

#include <algorithm>
#include <cmath>

namespace evm {
namespace {

constexpr int kBits = 22;  // of the fraction of a weight: 32, less 8 of a pixel and 2 for what filters overshoot

// What each pixel of a line is made of: `count` pixels from `first` on, with weights in fixed point.
struct Taps {
  int first = 0, count = 0;
  const int32_t* weights = nullptr;
};

struct Line {
  std::vector<Taps> taps;
  std::vector<int32_t> weights;
};

double triangle(double x) {
  x = std::fabs(x);
  return x < 1 ? 1 - x : 0;
}

double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

double sinc(double x) {
  if (x == 0) return 1;
  x *= 3.14159265358979323846;
  return std::sin(x) / x;
}

double lanczos(double x) { return -3 <= x && x < 3 ? sinc(x) * sinc(x / 3) : 0; }

struct Filter {
  double support;
  double (*weight)(double);
};

Line nearest(int from, int to) {
  Line found;
  found.weights.assign(1, 1 << kBits);
  const double scale = static_cast<double>(from) / to;
  double at = scale * 0.5;  // summed, as Pillow does it, which rounds otherwise than a product
  for (int i = 0; i < to; ++i, at += scale)
    found.taps.push_back({std::min(static_cast<int>(at), from - 1), 1, found.weights.data()});
  return found;
}

Line filtered(int from, int to, const Filter& filter) {
  const double scale = static_cast<double>(from) / to, wide = std::max(scale, 1.0), reach = filter.support * wide;
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
    for (int i = 0; i < count; ++i)
      sum += exact[static_cast<size_t>(i)] = filter.weight((i + first - centre + 0.5) * by);
    int32_t* weights = found.weights.data() + most * static_cast<size_t>(at);
    for (int i = 0; i < count; ++i) {
      const double weight = sum != 0 ? exact[static_cast<size_t>(i)] / sum : exact[static_cast<size_t>(i)];
      weights[i] = static_cast<int32_t>((weight < 0 ? -0.5 : 0.5) + weight * (1 << kBits));
    }
    found.taps[static_cast<size_t>(at)] = {first, count, weights};
  }
  return found;
}

Line line(int from, int to, Interpolation interpolation) {
  switch (interpolation) {
    case Interpolation::nearest: return nearest(from, to);
    case Interpolation::bilinear: return filtered(from, to, {1, triangle});
    case Interpolation::bicubic: return filtered(from, to, {2, bicubic});
    case Interpolation::lanczos: return filtered(from, to, {3, lanczos});
    case Interpolation::opencv_bilinear: break;  // not by lines of Pillow's
  }
  throw Error("an unknown interpolation");
}

uint8_t pixel(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kBits, 0, 255)); }

Image wider(const Image& image, int width, Interpolation interpolation) {
  if (image.width == width) return image;
  Image out{width, image.height, Bytes(static_cast<size_t>(width) * static_cast<size_t>(image.height) * 3)};
  const Line taps = line(image.width, width, interpolation);
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

Image taller(const Image& image, int height, Interpolation interpolation) {
  if (image.height == height) return image;
  const size_t row = static_cast<size_t>(image.width) * 3;
  Image out{image.width, height, Bytes(row * static_cast<size_t>(height))};
  const Line taps = line(image.height, height, interpolation);
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

// Of a new pixel, the two old ones that it lies between, and their weights in 11 bits.
struct Between {
  size_t first = 0, second = 0;
  int32_t near = 0, far = 0;
};

std::vector<Between> between(int from, int to) {
  const double scale = 1 / (static_cast<double>(to) / from);  // rounded twice, as OpenCV does
  std::vector<Between> found;
  for (int i = 0; i < to; ++i) {
    const auto at = static_cast<float>((i + 0.5) * scale - 0.5);
    const float before = std::floor(at), share = at - before;
    const auto place = [&](int old) { return static_cast<size_t>(std::min(std::max(old, 0), from - 1)); };
    const auto weight = [](float part) { return static_cast<int32_t>(std::nearbyint(part * 2048.0f)); };
    found.push_back({place(static_cast<int>(before)), place(static_cast<int>(before) + 1), weight(1 - share), weight(share)});
  }
  return found;
}

Image like_opencv(const Image& image, int width, int height) {
  const std::vector<Between> across = between(image.width, width), down = between(image.height, height);
  const size_t row = static_cast<size_t>(width) * 3;
  std::vector<int32_t> upper(row), lower(row);
  const auto fill = [&](std::vector<int32_t>& out, size_t y, int32_t weight) {
    const uint8_t* from = image.rgb.data() + y * static_cast<size_t>(image.width) * 3;
    for (size_t i = 0; i < row; ++i) {
      const Between& at = across[i / 3];
      const int32_t sum = from[at.first * 3 + i % 3] * at.near + from[at.second * 3 + i % 3] * at.far;
      out[i] = (sum >> 4) * weight >> 16;
    }
  };
  Image out{width, height, Bytes(row * static_cast<size_t>(height))};
  uint8_t* to = out.rgb.data();
  for (const Between& at : down) {
    fill(upper, at.first, at.near);
    fill(lower, at.second, at.far);
    for (size_t i = 0; i < row; ++i) *to++ = static_cast<uint8_t>((upper[i] + lower[i] + 2) >> 2);
  }
  return out;
}

}  // namespace

Image resized(const Image& image, int width, int height, Interpolation interpolation) {
  if (image.width == width && image.height == height && interpolation == Interpolation::opencv_bilinear) return image;
  if (interpolation == Interpolation::opencv_bilinear) return like_opencv(image, width, height);
  return taller(wider(image, width, interpolation), height, interpolation);
}

}  // namespace evm

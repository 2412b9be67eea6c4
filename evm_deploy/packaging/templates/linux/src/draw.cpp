#include "draw.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace evm {
namespace {

constexpr double kTurn = 0.61803398875;  // of the circle of hues: neighbouring classes are far apart

using Colour = std::array<uint8_t, 3>;

Colour colour_of(size_t index) {
  const double hue = std::fmod(static_cast<double>(index) * kTurn, 1.0) * 6, saturation = index / 12 % 2 ? 0.55 : 0.9;
  const auto channel = [&](double offset) {
    const double part = std::fmod(offset + hue, 6.0);
    return static_cast<uint8_t>(std::nearbyint(255 * 0.95 * (1 - saturation * std::max(0.0, std::min({part, 4 - part, 1.0})))));
  };
  return {channel(5), channel(3), channel(1)};
}

void cover(Image& image, size_t pixel, const Colour& colour) {  // half of it; halves of a level become even
  for (size_t c = 0; c < 3; ++c) {
    uint8_t& level = image.rgb[3 * pixel + c];
    level = static_cast<uint8_t>(std::nearbyint((level + colour[c]) / 2.0));
  }
}

// The runs go down the columns.
void cover(Image& image, const std::vector<uint32_t>& runs, const Colour& colour) {
  const auto height = static_cast<size_t>(image.height), width = static_cast<size_t>(image.width);
  size_t at = 0;
  for (size_t i = 0; i < runs.size(); ++i)
    for (const size_t end = at + runs[i]; at < end; ++at)
      if (i % 2) cover(image, at % height * width + at / height, colour);
}

void outline(Image& image, const Detection& thing, const Colour& colour) {
  const int line = std::max(1, static_cast<int>(std::nearbyint(std::max(image.width, image.height) / 400.0)));
  const auto within = [](double at, int length) { return static_cast<int>(std::min(std::max(at, 0.0), length - 1.0)); };
  const int left = within(thing.x, image.width), right = within(thing.x + thing.width, image.width);
  const int top = within(thing.y, image.height), bottom = within(thing.y + thing.height, image.height);
  for (int y = top; y <= bottom; ++y)
    for (int x = left; x <= right; ++x) {
      if (std::min({x - left, right - x, y - top, bottom - y}) >= line) continue;
      std::copy(colour.begin(), colour.end(), image.rgb.begin() + 3 * (static_cast<ptrdiff_t>(y) * image.width + x));
    }
}

}  // namespace

Image draw(const Findings& findings, const Image& image) {
  if (findings.width != image.width || findings.height != image.height)
    throw Error("this was found in an image of another size");
  Image drawn = image;
  for (size_t pixel = 0; pixel < findings.label_map.size(); ++pixel) cover(drawn, pixel, colour_of(findings.label_map[pixel]));
  for (auto thing = findings.detections.rbegin(); thing != findings.detections.rend(); ++thing)
    cover(drawn, thing->mask, colour_of(thing->index));
  for (auto thing = findings.detections.rbegin(); thing != findings.detections.rend(); ++thing)
    outline(drawn, *thing, colour_of(thing->index));
  return drawn;
}

}  // namespace evm

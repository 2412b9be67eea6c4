// Image files to pixels: PPM always, PNG and JPEG where their libraries were found.
#include "image.hpp"

#include <cctype>
#include <cstring>
#include <utility>

#include "files.hpp"

namespace evm {
namespace {

constexpr size_t kMostBytes = size_t{1} << 29;
constexpr uint64_t kMostPixels = 64000000;

bool begins(const Bytes& data, const std::string& with) {
  return data.size() >= with.size() && std::memcmp(data.data(), with.data(), with.size()) == 0;
}

Image decode_ppm(const Bytes& data) {
  uint64_t numbers[3] = {};
  size_t at = 2;
  for (uint64_t& number : numbers) {
    while (at < data.size() && (std::isspace(data[at]) || data[at] == '#')) {
      const bool comment = data[at] == '#';
      while (comment && at < data.size() && data[at] != '\n') ++at;
      if (!comment) ++at;
    }
    for (; at < data.size() && std::isdigit(data[at]) && number <= kMostPixels; ++at)
      number = number * 10 + static_cast<uint64_t>(data[at] - '0');
  }
  if (numbers[2] != 255) throw Error("a PPM file without 8 bits a channel");
  Image image = blank(numbers[0], numbers[1]);
  if (++at > data.size() || data.size() - at < image.rgb.size()) throw Error("a PPM file that is cut off");
  std::memcpy(image.rgb.data(), data.data() + at, image.rgb.size());
  return image;
}

Image upright(Image image, int orientation) {
  if (orientation == 1) return image;
  const bool swap = orientation > 4;  // the rows of the picture are columns of the file
  const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool from_below = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  const int width = swap ? image.height : image.width, height = swap ? image.width : image.height;
  Image out{width, height, Bytes(image.rgb.size())};
  uint8_t* to = out.rgb.data();
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x, to += 3) {
      const int across = swap ? y : x, down = swap ? x : y;
      const auto column = static_cast<size_t>(from_right ? image.width - 1 - across : across);
      const auto row = static_cast<size_t>(from_below ? image.height - 1 - down : down);
      std::memcpy(to, &image.rgb[(row * static_cast<size_t>(image.width) + column) * 3], 3);
    }
  return out;
}

Image decode(const Bytes& data, [[maybe_unused]] int& orientation, const std::string& path) {
  if (begins(data, "P6")) return decode_ppm(data);
#ifdef EVM_PNG
  if (begins(data, "\x89PNG\r\n\x1a\n")) return decode_png(data, orientation);
#endif
#ifdef EVM_JPEG
  if (begins(data, "\xff\xd8\xff")) return decode_jpeg(data, orientation);
#endif
  throw Error(path + " is not an image that this build reads (PPM; PNG with libpng, JPEG with libjpeg)");
}

}  // namespace

Image blank(uint64_t width, uint64_t height) {
  if (width == 0 || height == 0 || width > kMostPixels || height > kMostPixels / width)
    throw Error("an image without pixels, or with more than 64 megapixels");
  return {static_cast<int>(width), static_cast<int>(height), Bytes(static_cast<size_t>(width * height * 3))};
}

int orientation_of(const uint8_t* tiff, size_t size) {
  constexpr size_t kHead = 8, kEntry = 12, kTag = 0x0112, kShort = 3;
  if (size < kHead || (std::memcmp(tiff, "II*\0", 4) != 0 && std::memcmp(tiff, "MM\0*", 4) != 0)) return 1;
  const auto read = [&](size_t at, size_t bytes) {
    size_t value = 0;
    for (size_t i = 0; i < bytes && at + i < size; ++i)
      value |= size_t{tiff[at + i]} << 8 * (tiff[0] == 'I' ? i : bytes - 1 - i);
    return value;
  };
  const size_t table = read(4, 4), count = read(table, 2);
  for (size_t i = 0; i < count && table + 2 + kEntry * (i + 1) <= size; ++i) {
    const size_t entry = table + 2 + kEntry * i, value = read(entry + 8, 2);
    if (read(entry, 2) != kTag) continue;
    const bool known = read(entry + 2, 2) == kShort && read(entry + 4, 4) == 1 && value >= 1 && value <= 8;
    return known ? static_cast<int>(value) : 1;
  }
  return 1;
}

Image read_image(const std::string& path) {
  int orientation = 1;
  Image image = decode(read_file(path, kMostBytes), orientation, path);
  return upright(std::move(image), orientation);
}

}  // namespace evm

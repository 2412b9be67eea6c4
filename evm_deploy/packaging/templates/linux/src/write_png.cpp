// PNG files, which are not compressed: they need no library.
#include <algorithm>
#include <fstream>

#include "draw.hpp"

namespace evm {
namespace {

constexpr size_t kStored = 65535;  // bytes of a block of deflate that is not compressed

void append(Bytes& out, uint64_t number, int count) {  // the highest byte first
  for (int i = count - 1; i >= 0; --i) out.push_back(static_cast<uint8_t>(number >> 8 * i));
}

void append_chunk(Bytes& out, const std::string& name, const Bytes& data) {
  append(out, data.size(), 4);
  const size_t start = out.size();
  out.insert(out.end(), name.begin(), name.end());
  out.insert(out.end(), data.begin(), data.end());
  uint32_t sum = ~0u;
  for (size_t i = start; i < out.size(); ++i) {
    sum ^= out[i];
    for (int bit = 0; bit < 8; ++bit) sum = sum >> 1 ^ (sum & 1 ? 0xedb88320u : 0u);
  }
  append(out, ~sum, 4);
}

// zlib's format, not compressed.
Bytes stored(const Bytes& data) {
  Bytes out = {0x78, 0x01};
  for (size_t at = 0; at == 0 || at < data.size(); at += kStored) {
    const size_t count = std::min(kStored, data.size() - at);
    for (const size_t byte : {size_t{at + count == data.size()}, count & 255, count >> 8, ~count & 255, ~count >> 8 & 255})
      out.push_back(static_cast<uint8_t>(byte));
    out.insert(out.end(), data.begin() + static_cast<ptrdiff_t>(at), data.begin() + static_cast<ptrdiff_t>(at + count));
  }
  uint32_t low = 1, high = 0;
  for (const uint8_t byte : data) {
    low = (low + byte) % 65521;
    high = (high + low) % 65521;
  }
  append(out, high, 2);
  append(out, low, 2);
  return out;
}

// `type`: 0 grey, 2 colours. Rows of `row` bytes.
void write(const std::string& path, int width, int height, int bits, int type, const Bytes& pixels, size_t row) {
  Bytes lines, header, file = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  for (size_t at = 0; at < pixels.size(); at += row) {
    lines.push_back(0);  // no filter
    lines.insert(lines.end(), pixels.begin() + static_cast<ptrdiff_t>(at), pixels.begin() + static_cast<ptrdiff_t>(at + row));
  }
  append(header, static_cast<uint64_t>(width), 4);
  append(header, static_cast<uint64_t>(height), 4);
  for (const int byte : {bits, type, 0, 0, 0}) append(header, static_cast<uint64_t>(byte), 1);
  append_chunk(file, "IHDR", header);
  append_chunk(file, "IDAT", stored(lines));
  append_chunk(file, "IEND", {});
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(file.data()), static_cast<std::streamsize>(file.size()));
  out.close();
  if (!out) throw Error(path + " cannot be written");
}

}  // namespace

void write_png(const std::string& path, const Image& image) {
  write(path, image.width, image.height, 8, 2, image.rgb, static_cast<size_t>(image.width) * 3);
}

void write_classes(const std::string& path, const Findings& findings) {
  const std::vector<uint16_t>& map = findings.label_map;
  const int bytes = std::any_of(map.begin(), map.end(), [](uint16_t index) { return index > 255; }) ? 2 : 1;
  Bytes levels;
  for (const uint16_t index : map) append(levels, index, bytes);
  write(path, findings.width, findings.height, 8 * bytes, 0, levels, static_cast<size_t>(findings.width * bytes));
}

}  // namespace evm

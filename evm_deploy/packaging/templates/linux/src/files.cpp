#include "files.hpp"

#include <sys/stat.h>

#include <array>
#include <cstring>
#include <map>
#include <fstream>

namespace evm {
namespace {

constexpr std::array<uint32_t, 64> kRounds = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
    0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
    0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
    0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
    0xc67178f2};

uint32_t turned(uint32_t value, int by) { return value >> by | value << (32 - by); }

void add_block(std::array<uint32_t, 8>& state, const uint8_t* block) {
  uint32_t w[64];
  for (int i = 0; i < 16; ++i) {
    const uint8_t* b = block + 4 * i;
    w[i] = uint32_t{b[0]} << 24 | uint32_t{b[1]} << 16 | uint32_t{b[2]} << 8 | b[3];
  }
  for (int i = 16; i < 64; ++i) {
    const uint32_t low = turned(w[i - 15], 7) ^ turned(w[i - 15], 18) ^ w[i - 15] >> 3;
    const uint32_t high = turned(w[i - 2], 17) ^ turned(w[i - 2], 19) ^ w[i - 2] >> 10;
    w[i] = w[i - 16] + low + w[i - 7] + high;
  }
  std::array<uint32_t, 8> s = state;
  for (int i = 0; i < 64; ++i) {
    const uint32_t e = turned(s[4], 6) ^ turned(s[4], 11) ^ turned(s[4], 25);
    const uint32_t a = turned(s[0], 2) ^ turned(s[0], 13) ^ turned(s[0], 22);
    const uint32_t first = s[7] + e + ((s[4] & s[5]) ^ (~s[4] & s[6])) + kRounds[i] + w[i];
    const uint32_t second = a + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
    s = {first + second, s[0], s[1], s[2], s[3] + first, s[4], s[5], s[6]};
  }
  for (int i = 0; i < 8; ++i) state[i] += s[i];
}

size_t product(const std::vector<size_t>& shape, size_t size) {
  for (const size_t side : shape) {
    if (side != 0 && size > (size_t{1} << 40) / side) throw Error("an array of more bytes than there are");
    size *= side;
  }
  return size;
}

}  // namespace

Bytes read_file(const std::string& path, size_t limit) {
  struct stat facts;
  if (::stat(path.c_str(), &facts) != 0 || !S_ISREG(facts.st_mode)) throw Error(path + " is not a file");
  if (static_cast<uint64_t>(facts.st_size) > limit) throw Error(path + " has more bytes than it may");
  Bytes data(static_cast<size_t>(facts.st_size));
  std::ifstream file(path, std::ios::binary);
  if (!file.read(reinterpret_cast<char*>(data.data()), static_cast<std::streamsize>(data.size())) ||
      file.peek() != std::ifstream::traits_type::eof())
    throw Error(path + " cannot be read, or changes");
  return data;
}

std::string sha256(const Bytes& data) {
  std::array<uint32_t, 8> state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                   0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  const size_t whole = data.size() / 64 * 64, rest = data.size() - whole;
  for (size_t at = 0; at < whole; at += 64) add_block(state, data.data() + at);
  uint8_t last[128] = {};
  if (rest) std::memcpy(last, data.data() + whole, rest);
  last[rest] = 0x80;
  const size_t end = rest < 56 ? 64 : 128;
  const uint64_t bits = uint64_t{data.size()} * 8;
  for (size_t i = 0; i < 8; ++i) last[end - 1 - i] = static_cast<uint8_t>(bits >> 8 * i);
  for (size_t at = 0; at < end; at += 64) add_block(state, last + at);
  std::string text;
  for (const uint32_t word : state)
    for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[word >> shift & 15];
  return text;
}

void check_relative(const std::string& name) {
  size_t begin = 0;
  for (size_t at = 0; at <= name.size(); ++at) {
    if (at < name.size() && name[at] != '/') {
      if (static_cast<unsigned char>(name[at]) < 32 || name[at] == '\\' || name[at] == ':')
        throw Error("a file's name leaves the bundle");
      continue;
    }
    const std::string part = name.substr(begin, at - begin);
    if (part.empty() || part == "." || part == "..") throw Error("a file's name leaves the bundle");
    begin = at + 1;
  }
}

Array parse_npy(const Bytes& file) {
  const std::string magic = "\x93NUMPY";
  if (file.size() < 12 || std::string(file.begin(), file.begin() + 6) != magic) throw Error("not an .npy file");
  const size_t start = file[6] == 1 ? 10 : 12;
  size_t length = file[8] | size_t{file[9]} << 8;
  if (start == 12) length |= size_t{file[10]} << 16 | size_t{file[11]} << 24;
  if (length > file.size() - start) throw Error("an .npy file that is cut off");
  const std::string header(file.begin() + static_cast<std::ptrdiff_t>(start),
                           file.begin() + static_cast<std::ptrdiff_t>(start + length));
  const auto after = [&](const std::string& key, char end) {  // what stands between a key and `end`
    const size_t begin = header.find(key);
    const size_t stop = begin == std::string::npos ? begin : header.find(end, begin + key.size());
    if (stop == std::string::npos) throw Error("an .npy file of another kind");
    return header.substr(begin + key.size(), stop - begin - key.size());
  };
  Array array;
  array.type = after("'descr': '", '\'');
  const std::map<std::string, size_t> sizes = {{"<f4", 4}, {"|u1", 1}, {"<i4", 4}, {"<i8", 8}};
  const auto size = sizes.find(array.type);
  if (size == sizes.end()) throw Error("an .npy file of type " + array.type);
  if (after("'fortran_order': ", ',') != "False") throw Error("an .npy file in Fortran's order");
  size_t side = 0, digits = 0;
  for (const char each : after("'shape': (", ')') + ",") {
    if (each >= '0' && each <= '9') {
      if (++digits > 10) throw Error("an .npy file of another kind");
      side = side * 10 + static_cast<size_t>(each - '0');
    } else if (each == ',') {
      if (digits) array.shape.push_back(side);
      side = digits = 0;
    } else if (each != ' ') {
      throw Error("an .npy file of another kind");
    }
  }
  array.bytes.assign(file.begin() + static_cast<std::ptrdiff_t>(start + length), file.end());
  if (product(array.shape, size->second) != array.bytes.size()) throw Error("an .npy file cut off");
  return array;
}

std::vector<float> to_floats(const Array& array) {
  const auto as = [&](auto number) {
    std::vector<float> found(array.bytes.size() / sizeof number);
    for (size_t i = 0; i < found.size(); ++i) {
      std::memcpy(&number, array.bytes.data() + i * sizeof number, sizeof number);
      found[i] = static_cast<float>(number);
    }
    return found;
  };
  if (array.type == "<f4") return as(float{});
  if (array.type == "<i4") return as(int32_t{});
  if (array.type == "<i8") return as(int64_t{});
  return as(uint8_t{});
}

}  // namespace evm

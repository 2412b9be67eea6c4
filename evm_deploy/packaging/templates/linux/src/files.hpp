// Reads files of bounded size, and computes their hashes.
#pragma once

#include <string>
#include <vector>

#include "evm_deploy.hpp"

namespace evm {

// Throws Error: not a regular file, more than `limit` bytes, or not readable.
Bytes read_file(const std::string& path, size_t limit);

// 64 hexadecimal digits.
std::string sha256(const Bytes& data);

// Throws Error unless `name` is a relative path with `/` that stays in its folder.
void check_relative(const std::string& name);

// An array of NumPy's file format: little-endian, the last index runs fastest.
struct Array {
  std::string type;  // "<f4", "|u1", "<i4" or "<i8"
  std::vector<size_t> shape;
  Bytes bytes;
};

// Throws Error: not such a file, cut off, or of another type.
Array parse_npy(const Bytes& file);

std::vector<float> to_floats(const Array& array);

}  // namespace evm

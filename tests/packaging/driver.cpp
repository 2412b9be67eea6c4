// The parts of the C++ loader, each on a file: what they give goes to a file, what they refuse to stderr (exit code 3).
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "bundle.hpp"
#include "files.hpp"
#include "json.hpp"
#include "preprocess.hpp"

namespace {

void write(const char* path, const evm::Bytes& data) {
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(data.data()), static_cast<std::streamsize>(data.size()));
}

// input IMAGE PREPROCESSING.json OUT
void input(char** words) {
  const evm::Bytes text = evm::read_file(words[1], size_t{1} << 20);
  const evm::Steps steps = evm::read_steps(evm::json::parse(std::string(text.begin(), text.end())));
  write(words[2], evm::model_input(evm::read_image(words[0]), steps));
}

int one(const std::string& what, char** words) {
  try {
    const evm::Bytes data = what == "bundle" ? evm::Bytes() : evm::read_file(words[0], size_t{1} << 28);
    if (what == "input") input(words);
    else if (what == "pixels") write(words[1], evm::read_image(words[0]).rgb);
    else if (what == "json") evm::json::parse(std::string(data.begin(), data.end()));
    else if (what == "npy") write(words[1], evm::parse_npy(data).bytes);
    else if (what == "sha256") std::printf("%s\n", evm::sha256(data).c_str());
    else if (what == "bundle") evm::Bundle bundle(words[0]);
    else return 4;
  } catch (const evm::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 3;
  }
  return 0;
}

}  // namespace

// WHAT WORD..., or `each WHAT FILE...`: a line of the exit code for each file.
int main(int count, char** words) {
  if (count > 3 && std::strcmp(words[1], "each") == 0) {
    for (int i = 3; i < count; ++i) {
      char* pair[] = {words[i], const_cast<char*>("/dev/null")};
      std::printf("%d\n", one(words[2], pair));
    }
    return 0;
  }
  return count > 2 ? one(words[1], words + 2) : 4;
}

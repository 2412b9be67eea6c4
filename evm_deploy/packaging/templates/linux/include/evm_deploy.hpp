// The models of this package: an image in, labelled results out.
//
//   evm::Model model("models/NAME");
//   for (const evm::Result& best : model.classify(evm::read_image("cat.jpg"), 3))
//     std::printf("%.3f %s\n", best.probability, best.label.c_str());
//
// All functions throw evm::Error, which says what is wrong. Only one thread at a time may use a Model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace evm {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

using Bytes = std::vector<uint8_t>;

struct Image {
  int width = 0, height = 0;
  Bytes rgb;  // rows from the top, red, green and blue of each pixel
};

// PPM, and PNG and JPEG where the library was built with libpng and libjpeg. Upright, as EXIF says; without alpha.
Image read_image(const std::string& path);

struct Options {
  std::string onnxruntime;  // the library's path; empty: $ONNXRUNTIME_LIBRARY, what CMake found, the loader's path
  std::string operators;    // path of libevm_ops.so; empty: $EVM_OPS_LIBRARY, beside the program, in the package
  bool portable = false;    // leave our operators out: the same results, slower
  int threads = 0;          // 0: as many as onnxruntime chooses
};

struct Result {
  size_t index = 0;
  std::string label;
  float probability = 0;
};

// One thing in an image, in its pixels.
struct Detection {
  double x = 0, y = 0, width = 0, height = 0;
  double score = 0;
  size_t index = 0;  // of its class
  std::string label;
  std::vector<uint32_t> mask;  // of instances: runs of pixels outside and inside in turns, outside first, by columns
};

struct ClassShare {
  size_t index = 0;
  std::string label;
  double share = 0;  // of the pixels
};

// What a detector or segmenter found in an image of this size.
struct Findings {
  int width = 0, height = 0;
  std::vector<Detection> detections;  // the best first
  std::vector<ClassShare> classes;    // the largest first
  std::vector<uint16_t> label_map;    // of a semantic segmenter: the class of each pixel, rows from the top
};

// {"detections": [...]} as COCO's results have them, or {"classes": [...]}: what `evm-deploy predict --json` says.
std::string to_json(const Findings& findings);

struct Golden {
  // Largest difference by the largest golden value, at least 1; of detections the share of the scores without a match,
  // of classes of pixels that of differing ones. NaN: not comparable.
  double relative_error = 0;
  double tolerance = 0;
  bool passed = false;
};

class Model {
 public:
  // Checks the sha256 of every file of the bundle, then loads it.
  explicit Model(const std::string& folder, const Options& options = {});
  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;
  ~Model();

  // The best classes, best first. The image is resized, cropped and normalised as the model was trained.
  std::vector<Result> classify(const Image& image, size_t top = 5);

  // What a detector or segmenter finds, in the pixels of the image.
  Findings find(const Image& image);
  bool finds() const;  // whether it is one: others classify

  // The model's input for an image: float32 (1, 3, h, w), or uint8 (1, h, w, 3) where the model normalises itself.
  Bytes preprocess(const Image& image) const;

  // The outputs for an input of the golden input's size, as float32, in the order of the manifest.
  std::vector<std::vector<float>> run(const Bytes& input);

  // Runs the pair of input and outputs that PyTorch computed when the model was exported.
  Golden check_golden();

  // The golden pair's input, for timing.
  const Bytes& golden_input() const;

  // "onnxruntime", or "onnxruntime + evm_ops" where our operators are loaded.
  const std::string& runtime() const;
  const std::string& runtime_version() const;

  struct Facts {
    std::string target, precision, sha256;  // of manifest.json
    size_t model_bytes = 0;
  };
  const Facts& facts() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace evm

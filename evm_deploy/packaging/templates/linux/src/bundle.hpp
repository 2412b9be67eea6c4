// A bundle: its manifest, and its files, each checked against the hash in the manifest.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "evm_deploy.hpp"
#include "json.hpp"
#include "resize.hpp"

namespace evm {

enum class Resize { cover, squash, letterbox, fit };

// From an image to the model's input: resized for a canvas, cropped at the centre, (x / 255 - mean) / std.
struct Steps {
  int height = 0, width = 0;                // of the model's input
  int canvas_height = 0, canvas_width = 0;  // that the resized image covers, fills or fits into
  int long_side = 0, short_side = 0;        // of the box that an image is fitted into, either way round; 0: the input
  Resize resize = Resize::cover;
  Interpolation interpolation = Interpolation::bicubic;
  uint8_t fill = 0;               // what a letterbox pads with
  bool bgr = false;               // the model takes blue first
  float mean[3] = {}, std[3] = {};  // in the order of the model's channels
  bool baked = false;  // the model takes the cropped pixels and normalises itself
};

// Throws Error for what is not known here.
Steps read_steps(const json::Value& said);

struct Bundle {
  std::string folder, target, precision, model_file, manifest_sha256;
  std::string task;
  std::string input;                  // its name
  std::vector<std::string> outputs, meanings;  // their names, and what they are
  std::string last_steps;           // the file of the graph that follows the model; empty: the model gives the outputs
  std::vector<std::string> given;   // the outputs of the model, which that graph takes after the image
  bool probabilities = false;
  bool operators = false;  // the graph has our operators
  Steps steps;
  std::vector<std::string> labels;  // empty where there are none
  std::map<std::string, std::string> files;  // name: sha256
  double chosen_tolerance = 0;  // of deep networks in float16; 0: that of the precision

  // Throws Error: not a bundle, another version, or a changed file.
  explicit Bundle(const std::string& path);

  // The bytes of a file in the manifest. Throws Error: it is not in the manifest, or its hash differs.
  Bytes read(const std::string& name, size_t limit) const;

  // Greatest relative error of the outputs of the model.
  double tolerance() const;

  std::string sample(size_t output) const;  // the name of a golden output's file
};

}  // namespace evm

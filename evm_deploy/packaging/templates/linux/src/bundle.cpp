#include "bundle.hpp"

#include <cmath>

#include "files.hpp"
#include "json.hpp"

namespace evm {
namespace {

constexpr size_t kManifest = size_t{1} << 20, kLabels = size_t{1} << 22;
constexpr int kLargest = 4096;
const std::map<std::string, double> kTolerances = {@TOLERANCES@};

int side(const json::Value& value) {
  const int64_t number = value.integer();
  if (number < 1 || number > kLargest) throw Error("an image size in the manifest is not within 1 to 4096");
  return static_cast<int>(number);
}

void three(const json::Value& value, float (&out)[3]) {
  if (value.array().size() != 3) throw Error("mean or std in the manifest has not three values");
  for (size_t i = 0; i < 3; ++i) out[i] = static_cast<float>(value.array()[i].real());
}

Steps steps_of(const json::Value& said) {
  Steps steps;
  const auto& size = said.at("image_size").array();
  if (size.size() != 2) throw Error("image_size in the manifest has not two values");
  steps.height = side(size[0]);
  steps.width = side(size[1]);
  const double share = said.at("crop_pct").real();
  if (!(share >= 0.1 && share <= 1)) throw Error("crop_pct in the manifest is not within 0.1 to 1");
  if (said.at("interpolation").string() != "bicubic" || said.at("channels").string() != "RGB")
    throw Error("the manifest asks for another preprocessing than bicubic RGB");
  steps.cover_height = static_cast<int>(std::floor(steps.height / share));
  steps.cover_width = static_cast<int>(std::floor(steps.width / share));
  three(said.at("mean"), steps.mean);
  three(said.at("std"), steps.std);
  for (const float each : steps.std)
    if (!(each > 0)) throw Error("std in the manifest is not above 0");
  steps.baked = said.at("baked").boolean();
  return steps;
}

std::vector<std::string> lines(const Bytes& text) {
  std::vector<std::string> found;
  std::string line;
  for (const uint8_t byte : text) {
    if (byte != '\n') { line += static_cast<char>(byte); continue; }
    found.push_back(line);
    line.clear();
  }
  if (!line.empty()) found.push_back(line);
  return found;
}

}  // namespace

Bundle::Bundle(const std::string& path) : folder(path) {
  const Bytes text = read_file(folder + "/manifest.json", kManifest);
  manifest_sha256 = sha256(text);
  const json::Value said = json::parse(std::string(text.begin(), text.end()));
  if (said.at("schema_version").integer() != 1) throw Error(folder + " is a bundle of another version");
  for (const auto& [name, digest] : said.at("files").members) {
    check_relative(name);
    files[name] = digest.string();
  }
  target = said.at("target").string();
  precision = said.at("precision").string();
  model_file = said.at("model_file").string();
  classification = said.at("task").string() == "classification";
  operators = said.at("scan_form").string() != "inlined";
  steps = steps_of(said.at("preprocessing"));
  const auto& inputs = said.at("inputs").array();
  if (inputs.size() != 1) throw Error("the model in " + folder + " has not one input");
  if (inputs[0].at("dtype").string() != (steps.baked ? "uint8" : "float32")) throw Error("the input has another type");
  input = inputs[0].at("name").string();
  for (const json::Value& output : said.at("outputs").array()) {
    if (output.at("dtype").string() != "float32") throw Error("an output is not float32");
    outputs.push_back(output.at("name").string());
    probabilities = probabilities || output.at("meaning").string() == "probabilities";
  }
  if (outputs.empty() || outputs.size() > 64) throw Error("the model in " + folder + " has no outputs, or too many");
  if (const json::Value* name = said.find("labels")) labels = lines(read(name->string(), kLabels));
}

Bytes Bundle::read(const std::string& name, size_t limit) const {
  const auto listed = files.find(name);
  if (listed == files.end()) throw Error(folder + " does not list " + name + " among its files");
  Bytes data = read_file(folder + "/" + name, limit);
  if (sha256(data) != listed->second) throw Error(name + " in " + folder + " was changed: its sha256 differs");
  return data;
}

double Bundle::tolerance() const {
  const auto found = kTolerances.find(precision);
  if (found == kTolerances.end()) throw Error("the precision " + precision + " is not known here");
  return found->second;
}

std::string Bundle::sample(size_t output) const {
  return outputs.size() == 1 ? "sample/output.npy" : "sample/output" + std::to_string(output) + ".npy";
}

}  // namespace evm

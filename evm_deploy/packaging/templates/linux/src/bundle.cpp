#include "bundle.hpp"

#include <cmath>
#include <set>

#include "files.hpp"

namespace evm {
namespace {

constexpr size_t kManifest = size_t{1} << 20, kLabels = size_t{1} << 22;
constexpr int kLargest = 4096;
const std::map<std::string, double> kTolerances = {@TOLERANCES@};
constexpr double kFloat16Most = @FP16_MOST@;
const std::map<std::string, Resize> kResizes = {
    {"cover", Resize::cover}, {"squash", Resize::squash}, {"letterbox", Resize::letterbox}, {"fit", Resize::fit}};
const std::map<std::string, Interpolation> kInterpolations = {{"nearest", Interpolation::nearest},
                                                              {"bilinear", Interpolation::bilinear},
                                                              {"bicubic", Interpolation::bicubic},
                                                              {"lanczos", Interpolation::lanczos},
                                                              {"opencv_bilinear", Interpolation::opencv_bilinear}};
const std::map<std::string, bool> kChannels = {{"RGB", false}, {"BGR", true}};

int side(const json::Value& value) {
  const int64_t number = value.integer();
  if (number < 1 || number > kLargest) throw Error("an image size in the manifest is not within 1 to 4096");
  return static_cast<int>(number);
}

void three(const json::Value& value, float (&out)[3]) {
  if (value.array().size() != 3) throw Error("mean or std in the manifest has not three values");
  for (size_t i = 0; i < 3; ++i) out[i] = static_cast<float>(value.array()[i].real());
}

template <class Value>
Value choice(const std::map<std::string, Value>& known, const std::string& name) {
  const auto found = known.find(name);
  if (found == known.end()) throw Error("the manifest asks for " + name + ", which is not known here");
  return found->second;
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

Steps read_steps(const json::Value& said) {
  const std::set<std::string> known = {"image_size", "crop_pct", "interpolation", "channels", "mean",
                                       "std",        "baked",    "resize",        "fill", "scale"};
  for (const auto& member : said.members)
    if (!known.count(member.first)) throw Error("the manifest asks for " + member.first + ", which is not known here");
  Steps steps;
  const auto& size = said.at("image_size").array();
  if (size.size() != 2) throw Error("image_size in the manifest has not two values");
  steps.height = side(size[0]);
  steps.width = side(size[1]);
  const double share = said.at("crop_pct").real();
  if (!(share >= 0.1 && share <= 1)) throw Error("crop_pct in the manifest is not within 0.1 to 1");
  steps.canvas_height = static_cast<int>(std::floor(steps.height / share));
  steps.canvas_width = static_cast<int>(std::floor(steps.width / share));
  steps.interpolation = choice(kInterpolations, said.at("interpolation").string());
  steps.bgr = choice(kChannels, said.at("channels").string());
  if (said.members.count("resize")) steps.resize = choice(kResizes, said.at("resize").string());
  if (said.members.count("fill")) {  // manifests of before have neither
    const int64_t level = said.at("fill").integer();
    if (level < 0 || level > 255 || (level && steps.resize != Resize::letterbox))
      throw Error("fill in the manifest is not a level, or nothing is padded");
    steps.fill = static_cast<uint8_t>(level);
  }
  const bool fit = steps.resize == Resize::fit;
  if (fit != (steps.interpolation == Interpolation::opencv_bilinear) || (fit && share != 1))
    throw Error("the manifest asks for another fit than OpenCV's");
  if (const json::Value* scale = said.find("scale")) {
    if (!fit || scale->array().size() != 2) throw Error("scale in the manifest has not two values, or nothing is fitted");
    steps.long_side = side(scale->array()[0]);
    steps.short_side = side(scale->array()[1]);
  }
  three(said.at("mean"), steps.mean);
  three(said.at("std"), steps.std);
  for (const float each : steps.std)
    if (!(each > 0)) throw Error("std in the manifest is not above 0");
  steps.baked = said.at("baked").boolean();
  return steps;
}

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
  if (const json::Value* build = said.find("build"))
    if (const json::Value* tolerance = build->find("tolerance")) chosen_tolerance = tolerance->real();
  model_file = said.at("model_file").string();
  task = said.at("task").string();
  operators = said.at("scan_form").string() != "inlined";
  steps = read_steps(said.at("preprocessing"));
  const auto& inputs = said.at("inputs").array();
  if (inputs.size() != 1) throw Error("the model in " + folder + " has not one input");
  if (inputs[0].at("dtype").string() != (steps.baked ? "uint8" : "float32")) throw Error("the input has another type");
  input = inputs[0].at("name").string();
  for (const json::Value& output : said.at("outputs").array()) {
    outputs.push_back(output.at("name").string());
    meanings.push_back(output.at("meaning").string());
    probabilities = probabilities || meanings.back() == "probabilities";
  }
  if (const json::Value* follows = said.find("last_steps")) {
    last_steps = follows->at("file").string();
    for (const json::Value& output : follows->at("given").array()) given.push_back(output.at("name").string());
    if (steps.baked || given.size() > 64) throw Error("what follows the model in " + folder + " is not known here");
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
  const bool larger = precision == "fp16" && chosen_tolerance > found->second && chosen_tolerance <= kFloat16Most;
  return larger ? chosen_tolerance : found->second;
}

std::string Bundle::sample(size_t output) const {
  return outputs.size() == 1 ? "sample/output.npy" : "sample/output" + std::to_string(output) + ".npy";
}

}  // namespace evm

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "bundle.hpp"
#include "files.hpp"
#include "preprocess.hpp"
#include "runtime.hpp"

namespace evm {
namespace {

constexpr float kRounding = 1e-3f;  // how far a probability may be beyond 0 and 1
constexpr size_t kModel = size_t{1} << 32, kSample = size_t{1} << 29;

std::vector<int64_t> shape_of(const Steps& steps) {
  if (steps.baked) return {1, steps.height, steps.width, 3};
  return {1, 3, steps.height, steps.width};
}

// Throws Error where the golden input is not one that the model takes.
Bytes golden_of(const Bundle& bundle) {
  Array array = parse_npy(bundle.read("sample/input.npy", kSample));
  std::vector<int64_t> shape(array.shape.begin(), array.shape.end());
  if (shape != shape_of(bundle.steps) || array.type != (bundle.steps.baked ? "|u1" : "<f4"))
    throw Error("the golden input of " + bundle.folder + " is not an input of its model");
  return std::move(array.bytes);
}

}  // namespace

struct Model::Parts {
  Bundle bundle;
  Bytes golden;
  std::string runtime;
  Facts facts;
  std::unique_ptr<Session> session;

  explicit Parts(const std::string& folder, const Options& options) : bundle(folder), golden(golden_of(bundle)) {
    const Bytes model = bundle.read(bundle.model_file, kModel);  // what is hashed is what is loaded
    const std::string operators = bundle.operators ? operators_of(options) : "";
    runtime = operators.empty() ? "onnxruntime" : "onnxruntime + evm_ops";
    facts = {bundle.target, bundle.precision, bundle.manifest_sha256, model.size()};
    session = std::make_unique<Session>(model, options, operators);
  }
};

Model::Model(const std::string& folder, const Options& options) : parts_(std::make_unique<Parts>(folder, options)) {}
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;
Model::~Model() = default;

Bytes Model::preprocess(const Image& image) const { return model_input(image, parts_->bundle.steps); }

std::vector<std::vector<float>> Model::run(const Bytes& input) {
  const Bundle& bundle = parts_->bundle;
  const Steps& steps = bundle.steps;
  const auto pixels = static_cast<size_t>(steps.height) * static_cast<size_t>(steps.width) * 3;
  if (input.size() != pixels * (steps.baked ? 1 : sizeof(float))) throw Error("an input of another size");
  return parts_->session->run({bundle.input, shape_of(steps), steps.baked}, input, bundle.outputs);
}

std::vector<Result> Model::classify(const Image& image, size_t top) {
  const Bundle& bundle = parts_->bundle;
  if (!bundle.classification) throw Error(bundle.folder + " is a backbone: it gives feature maps, not classes");
  std::vector<float> scores = run(preprocess(image)).at(0);
  if (scores.empty() || (!bundle.labels.empty() && bundle.labels.size() != scores.size()))
    throw Error(bundle.folder + " has not one label for each class");
  const auto is_score = [&](float each) {
    return std::isfinite(each) && (!bundle.probabilities || (each > -kRounding && each < 1 + kRounding));
  };
  if (scores.size() < 2 || !std::all_of(scores.begin(), scores.end(), is_score))
    throw Error(bundle.folder + " gives no scores for this image");
  if (!bundle.probabilities) {
    const float most = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (float& score : scores) sum += score = std::exp(score - most);
    for (float& score : scores) score = static_cast<float>(score / sum);
  }
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  std::vector<Result> results;
  for (const size_t index : order) {
    if (results.size() == top) break;
    const std::string label = bundle.labels.empty() ? "class " + std::to_string(index) : bundle.labels[index];
    results.push_back({index, label, scores[index]});
  }
  return results;
}

Golden Model::check_golden() {
  const Bundle& bundle = parts_->bundle;
  const auto found = run(parts_->golden);
  Golden golden;
  golden.tolerance = bundle.tolerance();
  for (size_t i = 0; i < found.size(); ++i) {
    const Array array = parse_npy(bundle.read(bundle.sample(i), kSample));
    std::vector<float> expected(array.bytes.size() / sizeof(float));
    if (array.type != "<f4" || expected.size() != found[i].size())
      throw Error("the golden output of " + bundle.folder + " is not an output of its model");
    if (!expected.empty()) std::memcpy(expected.data(), array.bytes.data(), array.bytes.size());
    double worst = 0, most = 1;
    for (size_t at = 0; at < expected.size(); ++at) {
      const double difference = std::fabs(static_cast<double>(found[i][at]) - expected[at]);
      if (!std::isfinite(difference)) golden.relative_error = std::numeric_limits<double>::quiet_NaN();
      worst = std::max(worst, difference);
      most = std::max(most, std::fabs(static_cast<double>(expected[at])));
    }
    if (!std::isnan(golden.relative_error)) golden.relative_error = std::max(golden.relative_error, worst / most);
  }
  golden.passed = golden.relative_error <= golden.tolerance;  // a NaN is not
  return golden;
}

const Bytes& Model::golden_input() const { return parts_->golden; }
const std::string& Model::runtime() const { return parts_->runtime; }
const std::string& Model::runtime_version() const { return parts_->session->version(); }
const Model::Facts& Model::facts() const { return parts_->facts; }

}  // namespace evm

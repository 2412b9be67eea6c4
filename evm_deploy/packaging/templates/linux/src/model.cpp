#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "bundle.hpp"
#include "files.hpp"
#include "findings.hpp"
#include "preprocess.hpp"
#include "runtime.hpp"

namespace evm {
namespace {

constexpr float kRounding = 1e-3f;  // how far a probability may be beyond 0 and 1
constexpr size_t kModel = size_t{1} << 32, kSample = size_t{1} << 29;

// What depends on the meaning of the outputs.
struct Task {
  const char* title;
  std::vector<std::string> meanings;  // of its outputs, in order; none: any
  double (*compare)(const std::vector<Output>&, const std::vector<Output>&, double&);
  Findings (*locate)(const std::vector<Output>&, const Placement&, const std::vector<std::string>&);  // or null
};

const std::map<std::string, Task> kTasks = {
    {"classification", {"a classifier", {}, compare_numbers, nullptr}},
    {"backbone", {"a backbone: it gives feature maps, not classes", {}, compare_numbers, nullptr}},
    {"detection", {"a detector", {"boxes", "scores", "labels"}, compare_things, locate_things}},
    {"instance_segmentation",
     {"an instance segmenter", {"boxes", "scores", "labels", "masks"}, compare_things, locate_things}},
    {"semantic_segmentation", {"a semantic segmenter", {"classes of pixels"}, compare_classes, locate_classes}},
};

// Throws Error: a task that is not known here, or other outputs than it has.
const Task& task_of(const Bundle& bundle) {
  const auto found = kTasks.find(bundle.task);
  if (found == kTasks.end()) throw Error("the task " + bundle.task + " is not known here");
  const Task& task = found->second;
  const bool fits = task.meanings.empty() || task.meanings == bundle.meanings;
  if (!fits || (task.locate != nullptr) != (bundle.steps.resize == Resize::fit))
    throw Error(bundle.folder + " is no bundle of " + task.title);
  return task;
}

// Throws Error where the golden input is not one that the model takes.
Array golden_of(const Bundle& bundle) {
  Array array = parse_npy(bundle.read("sample/input.npy", kSample));
  const Steps& steps = bundle.steps;
  const bool free = steps.long_side || (steps.resize == Resize::fit && steps.baked);
  const auto at = [&](size_t place) { return array.shape.size() == 4 ? array.shape[place] : 0; };
  const size_t place = steps.baked ? 1 : 2;
  const bool sized = free ? at(place) && at(place + 1)
                          : at(place) == size_t(steps.height) && at(place + 1) == size_t(steps.width);
  if (at(0) != 1 || at(steps.baked ? 3 : 1) != 3 || !sized || array.type != (steps.baked ? "|u1" : "<f4"))
    throw Error("the golden input of " + bundle.folder + " is not an input of its model");
  return array;
}

// A golden output.
Output output_of(const Array& array) {
  Output output;
  output.shape.assign(array.shape.begin(), array.shape.end());
  output.values = to_floats(array);
  return output;
}

}  // namespace

struct Model::Parts {
  Bundle bundle;
  const Task& task;
  Array golden;
  std::string runtime;
  Facts facts;
  std::unique_ptr<Session> session, last_steps;

  explicit Parts(const std::string& folder, const Options& options) : bundle(folder), task(task_of(bundle)), golden(golden_of(bundle)) {
    const Bytes model = bundle.read(bundle.model_file, kModel);  // what is hashed is what is loaded
    const std::string operators = bundle.operators ? operators_of(options) : "";
    runtime = operators.empty() ? "onnxruntime" : "onnxruntime + evm_ops";
    facts = {bundle.target, bundle.precision, bundle.manifest_sha256, model.size()};
    session = std::make_unique<Session>(model, options, operators);
    if (!bundle.last_steps.empty())
      last_steps = std::make_unique<Session>(bundle.read(bundle.last_steps, kModel), options, "");
  }

  std::vector<Output> run(const Bytes& input, const std::vector<int64_t>& shape) {
    std::vector<Session::Tensor> inputs = {{bundle.input, shape, input.data(), input.size(), bundle.steps.baked}};
    if (!last_steps) return session->run(inputs, bundle.outputs);
    const std::vector<Output> given = session->run(inputs, bundle.given);
    for (size_t i = 0; i < given.size(); ++i)
      inputs.push_back({bundle.given[i], given[i].shape, given[i].values.data(), given[i].values.size() * sizeof(float)});
    return last_steps->run(inputs, bundle.outputs);
  }
  std::vector<Output> run_golden() { return run(golden.bytes, {golden.shape.begin(), golden.shape.end()}); }
};

Model::Model(const std::string& folder, const Options& options) : parts_(std::make_unique<Parts>(folder, options)) {}
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;
Model::~Model() = default;

Bytes Model::preprocess(const Image& image) const { return model_input(image, parts_->bundle.steps); }

std::vector<std::vector<float>> Model::run(const Bytes& input) {
  if (input.size() != parts_->golden.bytes.size()) throw Error("an input of another size");
  std::vector<std::vector<float>> found;
  for (Output& output : parts_->run(input, {parts_->golden.shape.begin(), parts_->golden.shape.end()}))
    found.push_back(std::move(output.values));
  return found;
}

bool Model::finds() const { return parts_->task.locate != nullptr; }

Findings Model::find(const Image& image) {
  const Bundle& bundle = parts_->bundle;
  if (!finds()) throw Error(bundle.folder + " is " + parts_->task.title);
  const std::vector<Output> found = parts_->run(preprocess(image), input_shape(image, bundle.steps));
  return parts_->task.locate(found, place(image.height, image.width, bundle.steps), bundle.labels);
}

std::vector<Result> Model::classify(const Image& image, size_t top) {
  const Bundle& bundle = parts_->bundle;
  if (bundle.task != "classification") throw Error(bundle.folder + " is " + parts_->task.title);
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
  std::vector<Output> expected;
  for (size_t i = 0; i < bundle.outputs.size(); ++i)
    expected.push_back(output_of(parse_npy(bundle.read(bundle.sample(i), kSample))));
  Golden golden;
  golden.tolerance = bundle.tolerance();
  golden.relative_error = parts_->task.compare(parts_->run_golden(), expected, golden.tolerance);
  golden.passed = golden.relative_error <= golden.tolerance;  // a NaN is not
  return golden;
}

const Bytes& Model::golden_input() const { return parts_->golden.bytes; }
const std::string& Model::runtime() const { return parts_->runtime; }
const std::string& Model::runtime_version() const { return parts_->session->version(); }
const Model::Facts& Model::facts() const { return parts_->facts; }

}  // namespace evm

// The classes of images, the golden pair, or the latency of models of this package.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>

#include "draw.hpp"
#include "evm_deploy.hpp"
#include "json.hpp"
#include "profile.hpp"

namespace {

constexpr const char* kUsage = R"(evm_run BUNDLE IMAGE...          the classes of images, or what a detector or segmenter finds in them
evm_run --golden BUNDLE...       runs the golden pairs; exit code 1 where one is not met
evm_run --profile BUNDLE...      latency, one JSON document on stdout
  --top N            classes of each image (5)
  --json             prints one JSON document
  --save FOLDER      a new folder for drawings of what is found
  --iterations N     timed runs of each bundle (100)
  --seconds S        of each bundle, instead
  --warm-up N        least runs before timing (5)
  --threads N        of onnxruntime; 0: onnxruntime chooses (0)
  --portable         without our operators: the same results, slower
  --onnxruntime FILE libonnxruntime.so; also $ONNXRUNTIME_LIBRARY
  --operators FILE   libevm_ops.so; also $EVM_OPS_LIBRARY
)";

struct Arguments {
  bool golden = false, profile = false, json = false;
  size_t top = 5;
  std::string save;
  evm::Options options;
  evm::Timing timing;
  std::vector<std::string> names;
};

double number(const std::string& option, const std::string& value, double least, double most) {
  char* end = nullptr;
  const double found = std::strtod(value.c_str(), &end);  // this program never leaves the C locale
  if (value.empty() || *end || !(found >= least && found <= most))
    throw evm::Error(option + " " + value + " is not within its bounds");
  return found;
}

Arguments parse(int count, char** values) {
  Arguments said;
  const auto whole = [](int& to, double most, double least) {
    return [&to, most, least](const std::string& option, const std::string& value) {
      to = static_cast<int>(number(option, value, least, most));
    };
  };
  int top = 5;
  const std::map<std::string, std::function<void(const std::string&, const std::string&)>> with_value = {
      {"--top", whole(top, 1e6, 1)},
      {"--iterations", whole(said.timing.iterations, 1e5, 1)},
      {"--warm-up", whole(said.timing.warm_up, 1e4, 1)},
      {"--threads", whole(said.options.threads, 1024, 0)},
      {"--seconds", [&](const auto& option, const auto& value) { said.timing.seconds = number(option, value, 0.05, 3600); }},
      {"--save", [&](const auto&, const auto& value) { said.save = value; }},
      {"--onnxruntime", [&](const auto&, const auto& value) { said.options.onnxruntime = value; }},
      {"--operators", [&](const auto&, const auto& value) { said.options.operators = value; }},
  };
  const std::map<std::string, bool*> flags = {
      {"--golden", &said.golden}, {"--profile", &said.profile}, {"--json", &said.json}, {"--portable", &said.options.portable}};
  for (int i = 1; i < count; ++i) {
    const std::string word = values[i];
    const auto flag = flags.find(word);
    const auto option = with_value.find(word);
    if (flag != flags.end()) *flag->second = true;
    else if (option != with_value.end() && i + 1 < count) option->second(word, values[++i]);
    else if (word.compare(0, 2, "--") == 0) throw evm::Error("there is no option " + word + ", or it has no value\n" + kUsage);
    else said.names.push_back(word);
  }
  said.top = static_cast<size_t>(top);
  if (said.names.size() < (said.golden || said.profile ? 1u : 2u)) throw evm::Error(std::string("usage:\n") + kUsage);
  return said;
}

int golden(const Arguments& said) {
  int code = 0;
  for (const std::string& name : said.names) {
    evm::Model model(name, said.options);
    const evm::Golden found = model.check_golden();
    std::printf("%s: %s: relative error %.2g, at most %.2g: %s\n", name.c_str(), model.runtime().c_str(),
                found.relative_error, found.tolerance, found.passed ? "passed" : "FAILED");
    code = found.passed ? code : 1;
  }
  return code;
}

void print_line(double share, const std::string& label) { std::printf("    %.4f  %s\n", share, label.c_str()); }

void print_lines(const evm::Findings& found) {
  for (const evm::ClassShare& each : found.classes) print_line(each.share, each.label);
  for (const evm::Detection& each : found.detections)
    std::printf("    %.4f  %s  %.1f %.1f %.1f %.1f\n", each.score, each.label.c_str(), each.x, each.y, each.width,
                each.height);
}

std::string to_json(const std::vector<evm::Result>& results) {
  std::string rows;
  for (const evm::Result& each : results)
    rows += (rows.empty() ? "{\"label\": " : ", {\"label\": ") + evm::json::quoted(each.label) +
            ", \"probability\": " + std::to_string(each.probability) + "}";
  return "{\"top\": [" + rows + "]}";
}

// The files with the drawings of an image, one with a number and a name.
std::vector<std::string> save(const std::string& folder, size_t number, const std::string& name,
                              const evm::Findings& found, const evm::Image& image) {
  std::filesystem::create_directories(folder);
  char digits[24];
  std::snprintf(digits, sizeof digits, "%03zu-", number);
  const std::string start = (std::filesystem::path(folder) / (digits + std::filesystem::path(name).stem().string())).string();
  std::vector<std::string> files = {start + ".png"};
  evm::write_png(files[0], evm::draw(found, image));
  if (!found.label_map.empty()) {
    files.push_back(start + ".classes.png");
    evm::write_classes(files[1], found);
  }
  return files;
}

std::string to_json(const std::vector<std::string>& texts) {
  std::string all;
  for (const std::string& each : texts) all += (all.empty() ? "" : ", ") + evm::json::quoted(each);
  return "[" + all + "]";
}

int predict(const Arguments& said) {
  evm::Model model(said.names[0], said.options);
  if (!said.save.empty() && (!model.finds() || std::filesystem::exists(said.save)))
    throw evm::Error("there is nothing to draw in " + said.save + ", or it exists");
  std::string document;
  for (size_t i = 1; i < said.names.size(); ++i) {
    const evm::Image image = evm::read_image(said.names[i]);
    if (!said.json) std::printf("%s\n", said.names[i].c_str());
    std::string answer;
    if (model.finds()) {
      const evm::Findings found = model.find(image);
      if (said.json) answer = evm::to_json(found);
      else print_lines(found);
      const auto files = said.save.empty() ? std::vector<std::string>() : save(said.save, i - 1, said.names[i], found, image);
      if (said.json && !files.empty()) answer.insert(answer.size() - 1, ", \"saved\": " + to_json(files));
      for (const std::string& file : said.json ? std::vector<std::string>() : files) std::printf("    saved %s\n", file.c_str());
    } else {
      const std::vector<evm::Result> best = model.classify(image, said.top);
      if (said.json) answer = to_json(best);
      else for (const evm::Result& each : best) print_line(each.probability, each.label);
    }
    if (said.json)
      document += (i > 1 ? ",\n  {" : "\n  {") + ("\"image\": " + evm::json::quoted(said.names[i])) + ", " + answer.substr(1);
  }
  if (said.json)
    std::printf("{\"bundle\": %s, \"predictions\": [%s\n]}\n", evm::json::quoted(said.names[0]).c_str(), document.c_str());
  return 0;
}

}  // namespace

int main(int count, char** values) {
  try {
    const Arguments said = parse(count, values);
    if (said.profile) {
      std::fputs(evm::profile(said.names, said.options, said.timing).c_str(), stdout);
      return 0;
    }
    return said.golden ? golden(said) : predict(said);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "evm_run: %s\n", error.what());
    return 2;
  }
}

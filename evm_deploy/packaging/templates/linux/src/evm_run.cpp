// The classes of images, the golden pair, or the latency of models of this package.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>

#include "evm_deploy.hpp"
#include "profile.hpp"

namespace {

constexpr const char* kUsage = R"(evm_run BUNDLE IMAGE...          the classes of images
evm_run --golden BUNDLE...       runs the golden pairs; exit code 1 where one is not met
evm_run --profile BUNDLE...      latency, one JSON document on stdout
  --top N            classes of each image (5)
  --iterations N     timed runs of each bundle (100)
  --seconds S        of each bundle, instead
  --warm-up N        least runs before timing (5)
  --threads N        of onnxruntime; 0: onnxruntime chooses (0)
  --portable         without our operators: the same results, slower
  --onnxruntime FILE libonnxruntime.so; also $ONNXRUNTIME_LIBRARY
  --operators FILE   libevm_ops.so; also $EVM_OPS_LIBRARY
)";

struct Arguments {
  bool golden = false, profile = false;
  size_t top = 5;
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
      {"--onnxruntime", [&](const auto&, const auto& value) { said.options.onnxruntime = value; }},
      {"--operators", [&](const auto&, const auto& value) { said.options.operators = value; }},
  };
  const std::map<std::string, bool*> flags = {
      {"--golden", &said.golden}, {"--profile", &said.profile}, {"--portable", &said.options.portable}};
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

int classify(const Arguments& said) {
  evm::Model model(said.names[0], said.options);
  for (size_t i = 1; i < said.names.size(); ++i) {
    std::printf("%s\n", said.names[i].c_str());
    for (const evm::Result& each : model.classify(evm::read_image(said.names[i]), said.top))
      std::printf("    %.4f  %s\n", each.probability, each.label.c_str());
  }
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
    return said.golden ? golden(said) : classify(said);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "evm_run: %s\n", error.what());
    return 2;
  }
}

#include "profile.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <cmath>
#include <locale>
#include <memory>
#include <set>
#include <sstream>

#include "json.hpp"
#include "machine.hpp"

namespace evm {
namespace {

// Times are steady when the medians of the last two windows differ by less than this share.
constexpr double kAgree = 0.05;
constexpr size_t kWindow = 5, kMostWindows = 24;
constexpr double kMostWarmUp = 20e3;  // ms, of each model
constexpr size_t kMostRuns = 100000;

struct Contender {
  std::string name, bundle, error;
  std::unique_ptr<Model> model;
  Golden golden;
  bool measured = false, steady = false;
  double load_ms = 0, first_ms = 0;
  size_t memory = 0;
  std::vector<double> warm_up, samples;
};

double timed(const std::function<void()>& call) {
  const auto start = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

double run(Contender& contender) {
  return timed([&] { contender.model->run(contender.model->golden_input()); });
}

// The peak of a process that loads the model and runs it once; 0 where that fails.
size_t memory_of(const std::string& bundle, const Options& options) {
  int ends[2];
  if (::pipe(ends) != 0) return 0;
  const pid_t child = ::fork();  // before onnxruntime has any threads here
  if (child == 0) {
    size_t peak = 0;
    try {
      Model model(bundle, options);
      model.run(model.golden_input());
      peak = peak_memory();
    } catch (const std::exception&) {
    }
    const bool told = ::write(ends[1], &peak, sizeof peak) == sizeof peak;
    ::_exit(told ? 0 : 1);
  }
  ::close(ends[1]);
  size_t peak = 0;
  if (child < 0 || ::read(ends[0], &peak, sizeof peak) != sizeof peak) peak = 0;
  ::close(ends[0]);
  if (child > 0) ::waitpid(child, nullptr, 0);
  return peak;
}

void open(Contender& contender, const Options& options) {
  try {
    contender.load_ms = timed([&] { contender.model = std::make_unique<Model>(contender.bundle, options); });
    contender.first_ms = run(contender);
    contender.golden = contender.model->check_golden();
    contender.measured = true;
    if (!contender.golden.passed) contender.error = "the golden pair is not met: nothing was timed";
  } catch (const std::exception& error) {
    contender.error = error.what();
  }
}

double median(std::vector<double>::const_iterator begin, std::vector<double>::const_iterator end) {
  std::vector<double> sorted(begin, end);
  std::sort(sorted.begin(), sorted.end());
  return (sorted[(sorted.size() - 1) / 2] + sorted[sorted.size() / 2]) / 2;
}

bool steady(const std::vector<double>& times) {
  if (times.size() < 2 * kWindow) return false;
  const auto end = times.end(), middle = end - kWindow, begin = middle - kWindow;
  const double last = median(middle, end), before = median(begin, middle);
  return std::fabs(last - before) <= kAgree * std::max(last, before);
}

// One turn: each model runs once untimed, which refills its caches, and then once timed.
void turn(std::vector<Contender*>& live, std::vector<double> Contender::*times, bool backwards) {
  for (size_t i = 0; i < live.size(); ++i) {
    Contender& contender = *live[backwards ? live.size() - 1 - i : i];
    run(contender);
    (contender.*times).push_back(run(contender));
  }
}

void measure(std::vector<Contender*>& live, const Timing& timing) {
  const auto begun = std::chrono::steady_clock::now();
  const auto passed = [&](std::chrono::steady_clock::time_point since) {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - since).count();
  };
  const auto most = static_cast<double>(live.size());
  for (size_t count = 1;; ++count) {
    turn(live, &Contender::warm_up, count % 2 == 0);
    bool all = true;
    for (Contender* each : live) all = (each->steady = steady(each->warm_up)) && all;
    const bool over = count >= kMostWindows * kWindow || passed(begun) > kMostWarmUp * most;
    if (count >= static_cast<size_t>(timing.warm_up) && (all || over)) break;
  }
  const auto start = std::chrono::steady_clock::now();
  for (size_t count = 1; count <= kMostRuns; ++count) {
    turn(live, &Contender::samples, count % 2 == 0);
    const bool enough = timing.seconds > 0 ? passed(start) >= timing.seconds * 1e3 * most
                                           : count >= static_cast<size_t>(timing.iterations);
    if (enough) break;
  }
}

std::string text(double value) {
  std::ostringstream stream;
  stream.imbue(std::locale::classic());
  stream.precision(9);
  stream << value;
  return std::isfinite(value) ? stream.str() : "null";
}

std::string result_json(const Contender& contender) {
  std::string out = "{\"name\": " + json::quoted(contender.name) + ", \"bundle\": " + json::quoted(contender.bundle);
  const Model::Facts facts = contender.model ? contender.model->facts() : Model::Facts{"?", "?", std::string(64, '0'), 0};
  const std::string runtime = contender.model ? contender.model->runtime() : "onnxruntime";
  out += ", \"runtime\": " + json::quoted(runtime) + ", \"provider\": \"cpu\", \"target\": " + json::quoted(facts.target);
  out += ", \"precision\": " + json::quoted(facts.precision) + ", \"sha256\": " + json::quoted(facts.sha256);
  out += ", \"size_bytes\": " + std::to_string(facts.model_bytes);
  if (!contender.error.empty()) out += ", \"error\": " + json::quoted(contender.error);
  if (contender.measured) {
    out += ", \"golden\": {\"relative_error\": " + text(contender.golden.relative_error);
    out += ", \"tolerance\": " + text(contender.golden.tolerance);
    out += std::string(", \"passed\": ") + (contender.golden.passed ? "true}" : "false}");
    out += ", \"load_ms\": " + text(contender.load_ms) + ", \"first_ms\": " + text(contender.first_ms);
  }
  if (contender.memory) out += ", \"memory\": {\"peak_bytes\": " + std::to_string(contender.memory) + "}";
  if (contender.samples.empty()) return out + "}";
  out += ", \"warm_up_runs\": " + std::to_string(2 * contender.warm_up.size());
  out += std::string(", \"steady\": ") + (contender.steady ? "true" : "false") + ", \"samples_ms\": [";
  for (size_t i = 0; i < contender.samples.size(); ++i) out += (i ? ", " : "") + text(contender.samples[i]);
  return out + "]}";
}

}  // namespace

std::string profile(const std::vector<std::string>& bundles, const Options& options, const Timing& timing) {
  std::vector<Contender> all;
  std::set<std::string> names;
  for (const std::string& bundle : bundles) {
    const size_t last = bundle.find_last_not_of('/'), slash = bundle.rfind('/', last);
    const std::string short_name = bundle.substr(slash + 1, last - slash);
    std::string name = names.count(short_name) ? bundle : short_name;
    for (int count = 2; !names.insert(name).second; ++count) name = bundle + " (" + std::to_string(count) + ")";
    all.emplace_back();
    all.back().name = name;
    all.back().bundle = bundle;
  }
  const std::string before = snapshot_json();
  for (Contender& each : all) each.memory = memory_of(each.bundle, options);
  std::vector<Contender*> live;
  std::string version;
  for (Contender& each : all) {
    open(each, options);
    if (each.model) version = each.model->runtime_version();
    if (each.error.empty()) live.push_back(&each);
  }
  if (!live.empty()) measure(live, timing);
  std::string out = "{\"schema\": \"evm-deploy/profile\", \"version\": 1, \"tool\": \"evm_run " EVM_VERSION "\"";
  out += ", \"created\": " + json::quoted(now()) + ", \"device\": " + device_json();
  out += ", \"conditions\": {\"before\": " + before + ", \"after\": " + snapshot_json();
  if (options.threads) out += ", \"threads\": " + std::to_string(options.threads);
  if (!version.empty()) out += ", \"versions\": {\"onnxruntime\": " + json::quoted(version) + "}";
  out += "}, \"method\": {\"iterations\": " + (timing.seconds > 0 ? "null" : std::to_string(timing.iterations));
  out += ", \"seconds\": " + (timing.seconds > 0 ? text(timing.seconds) : "null");
  out += ", \"warm_up\": " + std::to_string(timing.warm_up) + ", \"interleaved\": true}, \"results\": [";
  for (size_t i = 0; i < all.size(); ++i) out += (i ? ", " : "") + result_json(all[i]);
  return out + "]}\n";
}

}  // namespace evm

#include "machine.hpp"

#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <ctime>
#include <fstream>
#include <map>
#include <sstream>

#include "json.hpp"

namespace evm {
namespace {

const std::string kCpus = "/sys/devices/system/cpu/cpu", kZones = "/sys/class/thermal/thermal_zone";
constexpr int kMostZones = 64;

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line.substr(0, 256);
}

// The number in a file, NaN where there is none.
double number(const std::string& path) {
  std::istringstream stream(first_line(path));
  double value = std::nan("");
  return stream >> value ? value : std::nan("");
}

// What follows the colon in the first line that begins with `key`.
std::string entry(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (line.compare(0, key.size(), key) == 0) {
      const size_t colon = line.find(':');
      const size_t begin = colon == std::string::npos ? colon : line.find_first_not_of(" \t", colon + 1);
      return begin == std::string::npos ? "" : line.substr(begin, 8192);
    }
  return "";
}

std::string text(double value) {
  std::ostringstream stream;
  stream.imbue(std::locale::classic());
  stream.precision(9);
  stream << value;
  return stream.str();
}

std::string features() {
  const char* path = "/proc/cpuinfo";
  std::string line = entry(path, "flags");
  if (line.empty()) line = entry(path, "Features");
  std::istringstream words(line);
  std::string found;
  for (std::string word; words >> word;)
    for (const char* known : {"avx2", "avx512f", "avx512_vnni", "avx_vnni", "fma", "f16c", "asimd", "asimddp", "asimdhp", "i8mm", "sve"})
      if (word == known) found += (found.empty() ? "" : ", ") + json::quoted(word);
  return found;
}

// A member of an object, for a text that is not empty.
std::string member(const char* key, const std::string& value) {
  return value.empty() ? "" : std::string(", \"") + key + "\": " + json::quoted(value);
}

}  // namespace

std::string device_json() {
  utsname system = {};
  ::uname(&system);
#ifdef __ANDROID__
  const char* kind = "adb";
#else
  const char* kind = "local";
#endif
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  const bool known = ::sched_getaffinity(0, sizeof allowed, &allowed) == 0;
  std::string out = std::string("{\"kind\": \"") + kind + "\", \"name\": " + json::quoted(system.nodename);
  out += member("os", std::string(system.sysname) + " " + system.release) + member("machine", system.machine);
  std::string cpu = entry("/proc/cpuinfo", "model name");
  if (cpu.empty()) cpu = first_line("/proc/device-tree/model").c_str();  // ends with a zero byte
  out += member("cpu", cpu);
  if (known) out += ", \"cores\": " + std::to_string(CPU_COUNT(&allowed));
  const long pages = ::sysconf(_SC_PHYS_PAGES), page = ::sysconf(_SC_PAGESIZE);
  if (pages > 0 && page > 0) out += ", \"memory_bytes\": " + std::to_string(int64_t{pages} * page);
  return out + ", \"features\": [" + features() + "]}";
}

std::string snapshot_json() {
  std::string out = "{\"governor\": ";
  const std::string governor = first_line(kCpus + "0/cpufreq/scaling_governor");
  out += governor.empty() ? "null" : json::quoted(governor);
  const double load = number("/proc/loadavg");
  if (std::isfinite(load)) out += ", \"load\": " + text(load);
  std::string clocks, zones;
  for (long core = 0; core < ::sysconf(_SC_NPROCESSORS_ONLN); ++core) {
    const double kilohertz = number(kCpus + std::to_string(core) + "/cpufreq/scaling_cur_freq");
    if (std::isfinite(kilohertz)) clocks += (clocks.empty() ? "" : ", ") + text(kilohertz / 1000);
  }
  std::map<std::string, double> degrees;
  for (int zone = 0; zone < kMostZones; ++zone) {
    const double value = number(kZones + std::to_string(zone) + "/temp");
    if (std::isfinite(value)) degrees[first_line(kZones + std::to_string(zone) + "/type")] = value / 1000;
  }
  for (const auto& [name, value] : degrees) zones += (zones.empty() ? "" : ", ") + json::quoted(name) + ": " + text(value);
  if (!clocks.empty()) out += ", \"clocks_mhz\": [" + clocks + "]";
  if (!zones.empty()) out += ", \"temperatures_c\": {" + zones + "}";
  return out + "}";
}

size_t peak_memory() {
  std::istringstream stream(entry("/proc/self/status", "VmHWM"));
  size_t kilobytes = 0;
  stream >> kilobytes;
  return kilobytes * 1024;
}

std::string now() {
  const std::time_t seconds = std::time(nullptr);
  std::tm parts = {};
  ::gmtime_r(&seconds, &parts);
  std::array<char, 32> out = {};
  std::strftime(out.data(), out.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return out.data();
}

}  // namespace evm

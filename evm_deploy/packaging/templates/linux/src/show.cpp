#include <cstdio>

#include "evm_deploy.hpp"
#include "json.hpp"

namespace evm {
namespace {

std::string text(double value) {
  char digits[40];
  std::snprintf(digits, sizeof digits, "%.17g", value);
  return digits;
}

std::string named(size_t index, const std::string& label) {
  return "\"category_id\": " + std::to_string(index) + ", \"label\": " + json::quoted(label);
}

// A number five bits at a time, the lowest first, as pycocotools reads it.
void append(std::string& out, int64_t number) {
  for (bool last = false; !last;) {
    const int64_t low = number & 31;
    number >>= 5;
    last = number == (low & 16 ? -1 : 0);  // the highest bit that is written is the sign
    out += static_cast<char>((last ? low : low | 32) + 48);
  }
}

}  // namespace

std::string to_text(const std::vector<uint32_t>& runs) {
  std::string out;
  for (size_t i = 0; i < runs.size(); ++i) append(out, int64_t{runs[i]} - (i < 3 ? 0 : int64_t{runs[i - 2]}));
  return out;
}

std::string to_json(const Findings& findings) {
  std::string rows;
  for (const Detection& each : findings.detections) {
    rows += rows.empty() ? "" : ", ";
    rows += "{\"bbox\": [" + text(each.x) + ", " + text(each.y) + ", " + text(each.width) + ", " + text(each.height) +
            "], " + named(each.index, each.label) + ", \"score\": " + text(each.score);
    if (!each.mask.empty())
      rows += ", \"segmentation\": {\"counts\": " + json::quoted(to_text(each.mask)) + ", \"size\": [" +
              std::to_string(findings.height) + ", " + std::to_string(findings.width) + "]}";
    rows += "}";
  }
  for (const ClassShare& each : findings.classes) {
    rows += rows.empty() ? "" : ", ";
    rows += "{" + named(each.index, each.label) + ", \"share\": " + text(each.share) + "}";
  }
  return std::string("{\"") + (findings.label_map.empty() ? "detections" : "classes") + "\": [" + rows + "]}";
}

}  // namespace evm

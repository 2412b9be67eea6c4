#include "findings.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace evm {
namespace {

constexpr float kLeast = 0.5f;              // the probability from which on a pixel is covered
constexpr float kMostClasses = 1 << 16;     // that an image may have
constexpr size_t kMostThings = 10000;

std::string name_of(const std::vector<std::string>& labels, size_t index) {
  return index < labels.size() ? labels[index] : "class " + std::to_string(index);
}

size_t class_of(float value) {
  if (!(value >= 0 && value < kMostClasses)) throw Error("the model gives classes that are none");
  return static_cast<size_t>(value);
}

// The pixels of a side that a box reaches, and one more on either side; and the share of each cell of a mask at them.
struct Side {
  int first = 0, last = 0;  // the last is outside
  size_t cells = 0;
  std::vector<float> shares;  // of each pixel, each cell

  Side(float start, float end, int length, size_t count) : cells(count) {
    const auto within = [&](double at) { return static_cast<int>(std::min(std::max(at, 0.0), double(length))); };
    first = within(std::floor(double{start}) - 1);
    last = std::max(first, within(std::ceil(double{end}) + 1));
    const float extent = end - start;
    for (int pixel = first; pixel < last; ++pixel) {
      const float at = extent != 0 ? (static_cast<float>(pixel) + 0.5f - start) / extent : 0.5f;
      const float place = at * static_cast<float>(cells) - 0.5f;
      for (size_t cell = 0; cell < cells; ++cell)
        shares.push_back(std::max(1 - std::fabs(place - static_cast<float>(cell)), 0.0f));
    }
  }

  const float* at(int pixel) const { return shares.data() + static_cast<size_t>(pixel - first) * cells; }
};

// Runs of pixels outside and inside in turns, outside first, column by column.
struct Runs {
  std::vector<uint32_t> lengths = {0};

  void add(bool inside, int64_t count) {
    if (count <= 0) return;
    if (inside == (lengths.size() % 2 == 0)) lengths.back() += static_cast<uint32_t>(count);
    else lengths.push_back(static_cast<uint32_t>(count));
  }
};

// A mask lies over its box, as corners, and is interpolated linearly at the middle of each pixel.
std::vector<uint32_t> paste(const float* mask, size_t rows, size_t columns, const double (&box)[4], const Placement& in) {
  float corner[4];
  for (size_t i = 0; i < 4; ++i) corner[i] = static_cast<float>(box[i]);
  const Side down(corner[1], corner[3], in.height, rows), across(corner[0], corner[2], in.width, columns);
  std::vector<float> lines;  // of each pixel downward, the mask's cells across
  for (int y = down.first; y < down.last; ++y)
    for (size_t k = 0; k < columns; ++k) {
      float sum = 0;
      for (size_t cell = 0; cell < rows; ++cell) sum += down.at(y)[cell] * mask[cell * columns + k];
      lines.push_back(sum);
    }
  Runs runs;
  runs.add(false, int64_t{across.first} * in.height);
  for (int x = across.first; x < across.last; ++x) {
    runs.add(false, down.first);
    for (int y = down.first; y < down.last; ++y) {
      const float* line = lines.data() + static_cast<size_t>(y - down.first) * columns;
      float sum = 0;
      for (size_t cell = 0; cell < columns; ++cell) sum += line[cell] * across.at(x)[cell];
      runs.add(sum >= kLeast, 1);
    }
    runs.add(false, in.height - down.last);
  }
  runs.add(false, int64_t{in.width - across.last} * in.height);
  return runs.lengths;
}

// How many there are. Throws Error: the outputs do not belong together.
size_t count_of(const std::vector<Output>& found) {
  const size_t count = found.at(1).values.size();
  const auto has = [&](const Output& each, size_t rank) {
    return each.shape.size() == rank && each.shape[0] == static_cast<int64_t>(count);
  };
  const bool fits = found.size() >= 3 && count <= kMostThings && has(found[0], 2) && found[0].shape[1] == 4 &&
                    has(found[1], 1) && has(found[2], 1) && (found.size() < 4 || has(found[3], 3));
  if (!fits) throw Error("the model gives boxes that are none");
  return count;
}

double overlap(const float* one, const float* other) {
  const auto area = [](const float* box) { return (double{box[2]} - box[0]) * (double{box[3]} - box[1]); };
  const double width = std::min(double{one[2]}, double{other[2]}) - std::max(double{one[0]}, double{other[0]});
  const double height = std::min(double{one[3]}, double{other[3]}) - std::max(double{one[1]}, double{other[1]});
  const double common = std::max(width, 0.0) * std::max(height, 0.0), whole = area(one) + area(other) - common;
  return whole > 0 ? common / whole : 0;
}

void check_shapes(const std::vector<Output>& found, const std::vector<Output>& expected) {
  for (size_t i = 0; i < found.size(); ++i)
    if (found[i].shape != expected.at(i).shape) throw Error("the golden output is not an output of the model");
}

}  // namespace

Findings locate_things(const std::vector<Output>& found, const Placement& placement,
                       const std::vector<std::string>& labels) {
  Findings all;
  all.height = placement.height;
  all.width = placement.width;
  const double scale[2] = {double(placement.width) / placement.content_width,
                           double(placement.height) / placement.content_height};
  const size_t count = count_of(found);
  for (size_t i = 0; i < count; ++i) {
    double box[4];
    for (size_t k = 0; k < 4; ++k) {
      box[k] = found[0].values[4 * i + k] * scale[k % 2];
      if (!std::isfinite(box[k])) throw Error("the model gives boxes that are none");
    }
    Detection one;
    one.score = found[1].values[i];
    if (!(one.score >= 0 && one.score <= 1)) throw Error("the model gives boxes that are none");
    one.index = class_of(found[2].values[i]);
    one.label = name_of(labels, one.index);
    one.x = box[0];
    one.y = box[1];
    one.width = box[2] - box[0];
    one.height = box[3] - box[1];
    if (found.size() > 3) {
      const auto rows = static_cast<size_t>(found[3].shape[1]), columns = static_cast<size_t>(found[3].shape[2]);
      one.mask = paste(found[3].values.data() + i * rows * columns, rows, columns, box, placement);
    }
    all.detections.push_back(std::move(one));
  }
  return all;
}

Findings locate_classes(const std::vector<Output>& found, const Placement& placement,
                        const std::vector<std::string>& labels) {
  const Output& map = found.at(0);
  if (map.shape.size() != 3 || map.shape[0] != 1 || map.shape[1] < placement.content_height ||
      map.shape[2] < placement.content_width)
    throw Error("the model gives classes that are none");
  Findings all;
  all.height = placement.height;
  all.width = placement.width;
  const auto nearest = [](int at, int length, int content) {  // the pixel under the middle
    return std::min(static_cast<int64_t>((at + 0.5) * content / length), int64_t{content} - 1);
  };
  std::map<size_t, size_t> counts;
  for (int y = 0; y < all.height; ++y) {
    const float* row = map.values.data() + nearest(y, all.height, placement.content_height) * map.shape[2];
    for (int x = 0; x < all.width; ++x) {
      const size_t index = class_of(row[nearest(x, all.width, placement.content_width)]);
      all.label_map.push_back(static_cast<uint16_t>(index));
      ++counts[index];
    }
  }
  for (const auto& [index, count] : counts)
    all.classes.push_back({index, name_of(labels, index), double(count) / double(all.label_map.size())});
  std::stable_sort(all.classes.begin(), all.classes.end(),
                   [](const ClassShare& a, const ClassShare& b) { return a.share > b.share; });
  return all;
}

double compare_numbers(const std::vector<Output>& found, const std::vector<Output>& expected, double&) {
  check_shapes(found, expected);
  double error = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    double worst = 0, most = 1;
    for (size_t at = 0; at < expected[i].values.size(); ++at) {
      const double wanted = expected[i].values[at], difference = std::fabs(double{found[i].values[at]} - wanted);
      if (!std::isfinite(difference)) return std::numeric_limits<double>::quiet_NaN();
      worst = std::max(worst, difference);
      most = std::max(most, std::fabs(wanted));
    }
    error = std::max(error, worst / most);
  }
  return error;
}

double compare_things(const std::vector<Output>& found, const std::vector<Output>& expected, double& tolerance) {
  const size_t count = count_of(found), wanted = count_of(expected);
  const bool coarse = tolerance >= @COARSE@;
  const double least = coarse ? @SAME_THING@ : @SAME_BOX@;
  if (!coarse) tolerance = std::min(@MOST_MISSED@ * tolerance / 1e-4, @MOST_MISSED_AT_ALL@);
  std::vector<bool> taken(count, false);
  double total = 0, matched = 0;
  for (size_t i = 0; i < count; ++i) total += found[1].values[i];
  for (size_t i = 0; i < wanted; ++i) {  // the best first choose
    total += expected[1].values[i];
    double most = least;
    size_t best = count;
    for (size_t k = 0; k < count; ++k) {
      if (taken[k] || found[2].values[k] != expected[2].values[i]) continue;
      const double common = overlap(found[0].values.data() + 4 * k, expected[0].values.data() + 4 * i);
      if (common > most) { most = common; best = k; }
    }
    if (best == count) continue;
    taken[best] = true;
    matched += double{expected[1].values[i]} + found[1].values[best];
  }
  return total > 0 ? 1 - matched / total : total == 0 ? 0 : std::numeric_limits<double>::quiet_NaN();
}

double compare_classes(const std::vector<Output>& found, const std::vector<Output>& expected, double& tolerance) {
  check_shapes(found, expected);
  const std::vector<float>&one = found.at(0).values, &other = expected.at(0).values;
  size_t differing = 0;
  for (size_t i = 0; i < one.size(); ++i) differing += one[i] != other[i];
  tolerance *= @MOST_DIFFERING@ / 1e-4;
  return one.empty() ? 0 : double(differing) / double(one.size());
}

}  // namespace evm

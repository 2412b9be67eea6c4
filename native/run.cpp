// The scans as units of work over batch, direction and channels.

#include <algorithm>
#include <memory>
#include <new>
#include <vector>

#include "scan.h"
#include "sizes.h"

namespace evm {
namespace {

// Uninitialised floats, aligned to a cache line.
class Floats {
 public:
  explicit Floats(int64_t count) : owner_(new char[static_cast<size_t>(count) * sizeof(float) + 64]) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(owner_.get());
    data_ = reinterpret_cast<float*>((address + 63) / 64 * 64);
  }
  float* data() const { return data_; }

 private:
  std::unique_ptr<char[]> owner_;
  float* data_;
};

// What is checked below is as large as every other product of sizes in this file.
void check_sizes(const SelectiveScan& s) {
  count_numbers({s.batch, s.groups, s.length, s.channels});
  count_numbers({s.batch, s.groups, s.length, s.states});
  count_numbers({s.groups, s.states, s.channels});
  count_numbers({s.states, 2 * kUnit});  // the scratch
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t units_of(int64_t channels) { return ceil_div(channels, kUnit); }

// Group k of the image: rows k % step and columns k // step, every `step`; odd groups run column by column.
struct Group {
  Tokens tokens;
  int64_t offset;
};

Group group_of(const EfficientScan2D& s, int64_t k) {
  const int64_t row = k % s.step, column = k / s.step;
  const int64_t rows = ceil_div(s.height, s.step), columns = ceil_div(s.width, s.step);
  const int64_t valid_rows = std::max<int64_t>(ceil_div(s.height - row, s.step), 0);
  const int64_t valid_columns = std::max<int64_t>(ceil_div(s.width - column, s.step), 0);
  const int64_t row_stride = s.step * s.width * s.channels, column_stride = s.step * s.channels;
  const Tokens by_row = {rows * columns, columns, valid_columns, valid_rows, column_stride, row_stride, nullptr};
  const Tokens by_column = {rows * columns, rows, valid_rows, valid_columns, row_stride, column_stride, nullptr};
  return {k % 2 ? by_column : by_row, (row * s.width + column) * s.channels};
}

// The first projection: dt | B | C of every token, rows of `width` floats, a sequence after another.
struct Projected {
  int64_t groups, columns, width, length, sequences, image;

  explicit Projected(const EfficientScan2D& s)
      : groups(s.step * s.step),
        columns(s.rank + 2 * s.states),
        width(ceil_div(columns, kWidest) * kWidest),
        length(ceil_div(s.height, s.step) * ceil_div(s.width, s.step)),
        sequences(s.batch * groups),
        image(s.height * s.width * s.channels) {}

  // task(sequence, its group, first token, count) for kProjectBlock tokens at a time.
  template <class Task>
  void each(const Parallel& parallel, const Task& task) const {
    const int64_t blocks = ceil_div(length, kProjectBlock);
    parallel(sequences * blocks, [&](int64_t index) {
      const int64_t sequence = index / blocks, first = index % blocks * kProjectBlock;
      task(sequence, sequence % groups, first, static_cast<int>(std::min<int64_t>(kProjectBlock, length - first)));
    });
  }
};

void check_sizes(const EfficientScan2D& s) {
  if (s.step < 1 || s.step > kMostSteps) refuse("evm: step is not between 1 and 64");
  if (s.integers && s.channels > kMostIntegerChannels)
    refuse("evm: more than 65536 channels, whose integer products do not fit int32");
  count_numbers({s.batch, s.height, s.width, s.channels});
  count_numbers({s.step, s.width, s.channels});
  count_numbers({s.step * s.step, s.batch, s.channels});
  for (const int64_t columns : {s.rank, s.states}) count_numbers({s.step * s.step, s.channels, columns});
  const Projected shape(s);
  count_numbers({shape.groups, s.channels, shape.width});
  count_numbers({s.batch, shape.groups, shape.length, shape.width});
  count_numbers({s.rank + 2 * s.states, kUnit});  // the scratch
}

// `scales` (groups, columns): what the sums are multiplied with; null: nothing.
void project_floats(const EfficientScan2D& s, const float* x, const float* W, const float* scales, float* out,
                    const Parallel& parallel) {
  const Projected shape(s);
  // Rows of whole vectors, aligned: what this copies is a small part of what the product then reads.
  const int64_t columns = shape.columns, width = shape.width;
  const Floats x_proj(shape.groups * s.channels * width), zeros(s.channels);
  std::fill_n(zeros.data(), s.channels, 0.0f);
  for (int64_t row = 0; row < shape.groups * s.channels; ++row) {
    float* padding = std::copy_n(W + row * columns, columns, x_proj.data() + row * width);
    std::fill_n(padding, width - columns, 0.0f);
  }
  shape.each(parallel, [&](int64_t sequence, int64_t k, int64_t first, int count) {
    const Group group = group_of(s, k);
    Projection p = {};
    p.tokens = group.tokens;
    p.x = x + sequence / shape.groups * shape.image + group.offset;
    p.W = x_proj.data() + k * s.channels * width;
    p.zeros = zeros.data();
    p.out = out + sequence * shape.length * width;
    p.channels = s.channels;
    p.columns = columns;
    p.width = width;
    kernels().project(p, first, count);
    for (int t = 0; scales && t < count; ++t)
      for (int64_t c = 0; c < columns; ++c) p.out[(first + t) * width + c] *= scales[k * columns + c];
  });
}

// The scale of each sum: that of the tokens times that of the weights.
std::vector<float> scales_of(const EfficientScan2D& s, const IntegerWeights& integers) {
  const int64_t count = s.step * s.step * (s.rank + 2 * s.states);
  std::vector<float> scales(integers.scales, integers.scales + count);
  for (float& scale : scales) scale *= integers.rounding.scale;
  return scales;
}

// Integers held in floats: exact, for their sums stay below 2^24 up to 518 channels.
void project_rounded(const EfficientScan2D& s, const IntegerWeights& integers, float* out, const Parallel& parallel) {
  const int64_t pixels = s.batch * s.height * s.width, weights = s.step * s.step * s.channels * (s.rank + 2 * s.states);
  const Floats x(pixels * s.channels), W(weights);
  std::copy_n(integers.W, weights, W.data());
  parallel(s.batch * s.height, [&](int64_t row) {
    const int64_t count = s.width * s.channels, at = row * count;
    kernels().round_tokens(s.x + at, integers.rounding, x.data() + at, count);
  });
  project_floats(s, x.data(), W.data(), scales_of(s, integers).data(), out, parallel);
}

void project_integers(const EfficientScan2D& s, const IntegerWeights& integers, float* out, const Parallel& parallel) {
  const Projected shape(s);
  const int64_t columns = shape.columns, width = shape.width, row = ceil_div(s.channels, 4) * 4;
  const uint8_t zero = static_cast<uint8_t>(integers.rounding.zero);
  std::vector<uint8_t> x(static_cast<size_t>(s.batch * s.height * s.width * row), zero);
  const std::vector<uint8_t> padding(static_cast<size_t>(row), zero);
  parallel(s.batch * s.height, [&](int64_t line) {
    for (int64_t pixel = line * s.width; pixel < (line + 1) * s.width; ++pixel)
      kernels().quantise_row(s.x + pixel * s.channels, integers.rounding, x.data() + pixel * row, s.channels);
  });

  std::vector<int8_t> W(static_cast<size_t>(shape.groups * row * width), 0);
  std::vector<int32_t> shift(static_cast<size_t>(shape.groups * width), 0);
  std::vector<float> scales(static_cast<size_t>(shape.groups * width), 0.0f);
  const std::vector<float> given = scales_of(s, integers);
  for (int64_t k = 0; k < shape.groups; ++k) {
    std::copy_n(given.data() + k * columns, columns, scales.data() + k * width);
    for (int64_t d = 0; d < s.channels; ++d) {
      const int8_t* weights = integers.W + (k * s.channels + d) * columns;
      for (int64_t c = 0; c < columns; ++c) {
        W[static_cast<size_t>(((k * row + d) / 4 * width + c) * 4 + d % 4)] = weights[c];
        shift[static_cast<size_t>(k * width + c)] += weights[c] * zero;
      }
    }
  }
  shape.each(parallel, [&](int64_t sequence, int64_t k, int64_t first, int count) {
    const Group group = group_of(s, k);
    IntegerProjection p = {};
    p.tokens = group.tokens;
    p.x = x.data() + (sequence / shape.groups * shape.image + group.offset) / s.channels * row;
    p.W = W.data() + k * row * width;
    p.shift = shift.data() + k * width;
    p.scale = scales.data() + k * width;
    p.padding = padding.data();
    p.out = out + sequence * shape.length * width;
    p.channels = s.channels;
    p.row = row;
    p.columns = columns;
    p.width = width;
    kernels().project_integers(p, first, count);
  });
}

// Channels from `channel` on of group k of a scan whose projections, dt | B | C, are `rows`, `width` floats apart. Where
// its tokens lie is not said.
template <class Scan>
Unit make_unit(const Scan& s, int64_t k, int64_t channel, const float* rows, int64_t width) {
  Unit unit = {};
  unit.count = static_cast<int>(std::min<int64_t>(kUnit, s.channels - channel));
  unit.channels = s.channels;
  unit.states = s.states;
  unit.A = s.A + k * s.states * s.channels + channel;
  unit.skip = s.skip + k * s.channels + channel;
  unit.bias = s.dt_bias + k * s.channels + channel;
  unit.B = rows + s.rank;
  unit.C = rows + s.rank + s.states;
  unit.ldbc = width;
  unit.dt = rows;
  unit.dt_proj = s.dt_proj + k * s.rank * s.channels + channel;
  unit.rank = s.rank;
  unit.softplus = true;
  return unit;
}

void scan_unit(Unit& unit) {
  const Floats scratch(scratch_floats(unit.states, unit.rank));
  unit.scratch = scratch.data();
  kernels().scan(unit);
}

}  // namespace

void run(const SelectiveScan& s, const Parallel& parallel) {
  check_sizes(s);
  if (s.length == 0) return;
  const int64_t units = units_of(s.channels);
  parallel(s.batch * s.groups * units, [&](int64_t index) {
    const int64_t sequence = index / units, group = sequence % s.groups, channel = index % units * kUnit;
    const int64_t at = sequence * s.length * s.channels + channel, of_group = group * s.channels + channel;
    Unit unit = {};
    unit.tokens = {s.length, s.length, s.length, 1, s.channels, 0, nullptr};
    unit.u = s.u + at;
    unit.y = s.y + at;
    unit.count = static_cast<int>(std::min<int64_t>(kUnit, s.channels - channel));
    unit.channels = s.channels;
    unit.states = s.states;
    unit.A = s.A + group * s.states * s.channels + channel;
    unit.skip = s.skip ? s.skip + of_group : nullptr;
    unit.bias = s.delta_bias ? s.delta_bias + of_group : nullptr;
    unit.B = s.B + sequence * s.length * s.states;
    unit.C = s.C + sequence * s.length * s.states;
    unit.ldbc = s.states;
    unit.delta = s.delta + at;
    unit.softplus = s.delta_softplus;
    scan_unit(unit);
  });
}

void run(const EfficientScan2D& s, const Parallel& parallel) {
  check_sizes(s);
  const Projected shape(s);
  const int64_t groups = shape.groups, length = shape.length, sequences = shape.sequences, width = shape.width;
  if (length == 0 || s.batch == 0 || s.channels == 0) return;

  const Floats projected(sequences * length * width);
  if (!s.integers) {
    project_floats(s, s.x, s.x_proj, nullptr, projected.data(), parallel);
  } else if (kernels().project_integers) {
    project_integers(s, *s.integers, projected.data(), parallel);
  } else {
    project_rounded(s, *s.integers, projected.data(), parallel);
  }

  const int64_t units = units_of(s.channels);
  parallel(sequences * units, [&](int64_t index) {
    const int64_t sequence = index / units, k = sequence % groups, channel = index % units * kUnit;
    const Group group = group_of(s, k);
    const int64_t at = sequence / groups * shape.image + group.offset + channel;
    Unit unit = make_unit(s, k, channel, projected.data() + sequence * length * width, width);
    unit.tokens = group.tokens;
    unit.u = s.x + at;
    unit.y = s.y + at;
    scan_unit(unit);
  });
}

namespace {

void check_sizes(const OrderedScan& s) {
  count_numbers({s.batch, s.tokens, s.channels});
  count_numbers({s.batch, s.results, s.channels});
  count_numbers({s.groups, s.length, s.channels});
  count_numbers({s.summed, s.results});
  for (const int64_t columns : {s.rank, s.states}) count_numbers({s.groups, s.channels, columns});
  const int64_t columns = count_numbers({s.rank + 2 * s.states, 1}) + kWidest;
  count_numbers({s.groups, s.channels, columns});
  count_numbers({s.groups, std::max(s.batch, int64_t{1}), std::max(s.tokens, s.length), columns});
  count_numbers({columns, kUnit + kBlock});  // the scratch
}

// Where the tokens of every group lie, and where what it gives is added: both (groups, length), in floats; -1: nowhere.
struct Order {
  std::vector<int64_t> reads, writes;

  explicit Order(const OrderedScan& s)
      : reads(static_cast<size_t>(s.groups * s.length)), writes(reads.size(), -1) {
    for (size_t i = 0; i < reads.size(); ++i) {
      if (s.order[i] < 0 || s.order[i] >= s.tokens)
        refuse("evm: the order of a scan names a token that is not there");
      reads[i] = s.order[i] * s.channels;
    }
    for (int64_t i = 0; i < s.summed * s.results; ++i) {
      if (s.back[i] < 0 || s.back[i] >= static_cast<int64_t>(writes.size()) || writes[static_cast<size_t>(s.back[i])] >= 0)
        refuse("evm: the sums of a scan use a token that is not there, or one twice");
      writes[static_cast<size_t>(s.back[i])] = i % s.results * s.channels;
    }
  }

  Tokens tokens(const std::vector<int64_t>& places, const OrderedScan& s, int64_t group) const {
    return {s.length, 1, 1, s.length, 0, 0, places.data() + group * s.length};
  }
};

// dt | B | C of every token for every group: of the tokens as they lie, for all groups by one product, where groups
// share them, else of each group's tokens in its order.
struct Projections {
  bool shared;
  int64_t columns, width, products, rows;
  Floats values;              // (batch, products, rows, width)
  std::vector<int64_t> places;  // (groups, length), where they are shared: the rows of the tokens, in floats

  Projections(const OrderedScan& s, const Order& order, const Parallel& parallel)
      : shared(s.groups * s.length > s.tokens),
        columns(s.rank + 2 * s.states),
        width(ceil_div(columns * (shared ? s.groups : 1), kWidest) * kWidest),
        products(shared ? 1 : s.groups),
        rows(shared ? s.tokens : s.length),
        values(s.batch * products * rows * width) {
    if (shared) {
      places = std::vector<int64_t>(order.reads.size());
      for (size_t i = 0; i < places.size(); ++i) places[i] = s.order[i] * width;
    }
    const Floats W(products * s.channels * width), zeros(s.channels);
    std::fill_n(W.data(), products * s.channels * width, 0.0f);
    for (int64_t k = 0; k < s.groups; ++k)
      for (int64_t d = 0; d < s.channels; ++d)
        std::copy_n(s.x_proj + (k * s.channels + d) * columns, columns,
                    W.data() + (shared ? d * width + k * columns : (k * s.channels + d) * width));
    const int64_t blocks = ceil_div(rows, kProjectBlock);
    parallel(s.batch * products * blocks, [&](int64_t index) {
      const int64_t product = index / blocks, k = product % products, first = index % blocks * kProjectBlock;
      Projection p = {};
      p.tokens = shared ? Tokens{rows, rows, rows, 1, s.channels, 0, nullptr} : order.tokens(order.reads, s, k);
      p.x = s.x + product / products * s.tokens * s.channels;
      p.W = W.data() + k * s.channels * width;
      p.zeros = zeros.data();  // no token is padding
      p.out = values.data() + product * rows * width;
      p.channels = s.channels;
      p.columns = shared ? s.groups * columns : columns;
      p.width = width;
      kernels().project(p, first, static_cast<int>(std::min<int64_t>(kProjectBlock, rows - first)));
    });
  }

  // The first row of image b and group k.
  const float* first(int64_t b, int64_t k) const {
    return values.data() + (shared ? b * rows * width + k * columns : (b * products + k) * rows * width);
  }
};

}  // namespace

void run(const OrderedScan& s, const Parallel& parallel) {
  check_sizes(s);
  const Order order(s);
  std::fill_n(s.y, s.batch * s.results * s.channels, 0.0f);
  if (order.reads.empty() || s.batch == 0 || s.channels == 0) return;
  const Projections projected(s, order, parallel);

  // The groups one after another, so that the sums do not depend on the threads.
  const int64_t units = units_of(s.channels);
  parallel(s.batch * units, [&](int64_t index) {
    const int64_t b = index / units, channel = index % units * kUnit;
    for (int64_t k = 0; k < s.groups; ++k) {
      const Tokens results = order.tokens(order.writes, s, k);
      Unit unit = make_unit(s, k, channel, projected.first(b, k), projected.width);
      unit.tokens = order.tokens(order.reads, s, k);
      unit.results = &results;
      unit.u = s.x + b * s.tokens * s.channels + channel;
      unit.y = s.y + b * s.results * s.channels + channel;
      unit.rows = projected.shared ? projected.places.data() + k * s.length : nullptr;
      scan_unit(unit);
    }
  });
}

}  // namespace evm

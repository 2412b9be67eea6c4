// The two operators as units of work over batch, direction and channels.

#include <algorithm>
#include <memory>
#include <new>

#include "scan.h"

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
  const Tokens by_row = {rows * columns, columns, valid_columns, valid_rows, column_stride, row_stride};
  const Tokens by_column = {rows * columns, rows, valid_rows, valid_columns, row_stride, column_stride};
  return {k % 2 ? by_column : by_row, (row * s.width + column) * s.channels};
}

void scan_unit(Unit& unit) {
  const Floats scratch(scratch_floats(unit.states, unit.rank));
  unit.scratch = scratch.data();
  kernels().scan(unit);
}

}  // namespace

void run(const SelectiveScan& s, const Parallel& parallel) {
  if (s.length == 0) return;
  const int64_t units = units_of(s.channels);
  parallel(s.batch * s.groups * units, [&](int64_t index) {
    const int64_t sequence = index / units, group = sequence % s.groups, channel = index % units * kUnit;
    const int64_t at = sequence * s.length * s.channels + channel, of_group = group * s.channels + channel;
    Unit unit = {};
    unit.tokens = {s.length, s.length, s.length, 1, s.channels, 0};
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
  const int64_t groups = s.step * s.step, columns = s.rank + 2 * s.states;
  const int64_t length = ceil_div(s.height, s.step) * ceil_div(s.width, s.step);
  const int64_t sequences = s.batch * groups, image = s.height * s.width * s.channels;
  if (length == 0 || s.batch == 0 || s.channels == 0) return;

  // Rows of whole vectors, aligned: what this copies is a small part of what the product then reads.
  const int64_t width = ceil_div(columns, kWidest) * kWidest;
  const Floats x_proj(groups * s.channels * width), zeros(s.channels);
  std::fill_n(zeros.data(), s.channels, 0.0f);
  for (int64_t row = 0; row < groups * s.channels; ++row) {
    float* padding = std::copy_n(s.x_proj + row * columns, columns, x_proj.data() + row * width);
    std::fill_n(padding, width - columns, 0.0f);
  }

  const Floats projected(sequences * length * width);  // dt | B | C of every token
  const int64_t blocks = ceil_div(length, kProjectBlock);
  parallel(sequences * blocks, [&](int64_t index) {
    const int64_t sequence = index / blocks, k = sequence % groups, first = index % blocks * kProjectBlock;
    const Group group = group_of(s, k);
    Projection p = {};
    p.tokens = group.tokens;
    p.x = s.x + sequence / groups * image + group.offset;
    p.W = x_proj.data() + k * s.channels * width;
    p.zeros = zeros.data();
    p.out = projected.data() + sequence * length * width;
    p.channels = s.channels;
    p.columns = columns;
    p.width = width;
    kernels().project(p, first, static_cast<int>(std::min<int64_t>(kProjectBlock, length - first)));
  });

  const int64_t units = units_of(s.channels);
  parallel(sequences * units, [&](int64_t index) {
    const int64_t sequence = index / units, k = sequence % groups, channel = index % units * kUnit;
    const Group group = group_of(s, k);
    const int64_t at = sequence / groups * image + group.offset + channel;
    const float* rows = projected.data() + sequence * length * width;
    Unit unit = {};
    unit.tokens = group.tokens;
    unit.u = s.x + at;
    unit.y = s.y + at;
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
    scan_unit(unit);
  });
}

}  // namespace evm

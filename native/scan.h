// What every part of the library agrees on: the arguments of the scans, how tokens lie in memory, and the table
// of kernels that each instruction set fills in. Symbols follow the paper: u, delta, A, B, C, N states, R rank of dt.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace evm {

// y[b,k,l,d] of evm::SelectiveScan. skip is the paper's D; skip and delta_bias may be null.
struct SelectiveScan {
  int64_t batch, groups, length, channels, states;
  bool delta_softplus;
  const float* u;           // (batch, groups, length, channels)
  const float* delta;       // (batch, groups, length, channels)
  const float* A;           // (groups, states, channels)
  const float* B;           // (batch, groups, length, states)
  const float* C;           // (batch, groups, length, states)
  const float* skip;        // (groups, channels)
  const float* delta_bias;  // (groups, channels)
  float* y;                 // (batch, groups, length, channels)
};

// How floats become uint8: round(x / scale) + zero, as QuantizeLinear does.
struct Rounding {
  float scale;
  int zero;
  float low() const { return static_cast<float>(-zero); }  // of round(x / scale)
  float high() const { return static_cast<float>(255 - zero); }
};

// x_proj on integers, as in evm::QuantizedEfficientScan2D.
struct IntegerWeights {
  Rounding rounding;    // of x, for the projection alone
  const int8_t* W;      // (groups, channels, rank + 2 * states)
  const float* scales;  // (groups, rank + 2 * states)
};

// y[b,h,w,d] of evm::EfficientScan2D: step * step groups, each scanned by itself. x_proj is in floats or in integers,
// and the other pointer null.
struct EfficientScan2D {
  int64_t batch, height, width, channels, states, rank, step;
  const float* x;        // (batch, height, width, channels)
  const float* x_proj;   // (groups, channels, rank + 2 * states), columns dt | B | C
  const float* dt_proj;  // (groups, rank, channels)
  const float* dt_bias;  // (groups, channels)
  const float* A;        // (groups, states, channels)
  const float* skip;     // (groups, channels)
  float* y;              // (batch, height, width, channels)
  const IntegerWeights* integers;
};

// y[b,t,d] of evm::OrderedScan: every group scans `length` of the tokens, in its order, and y[t] is the sum of `summed`
// of what they give: back[.,t] are numbers of (groups, length), each there once at most.
struct OrderedScan {
  int64_t batch, tokens, groups, length, channels, states, rank, summed, results;
  const float* x;         // (batch, tokens, channels)
  const float* x_proj;    // (groups, channels, rank + 2 * states), columns dt | B | C
  const float* dt_proj;   // (groups, rank, channels)
  const float* dt_bias;   // (groups, channels)
  const float* A;         // (groups, states, channels)
  const float* skip;      // (groups, channels)
  const int64_t* order;   // (groups, length)
  const int64_t* back;    // (summed, results)
  float* y;               // (batch, results, channels)
};

// Runs task(0) ... task(count - 1), in any order, on the threads that the caller has.
using Task = std::function<void(int64_t)>;
using Parallel = std::function<void(int64_t count, const Task& task)>;

// The results do not depend on how `parallel` spreads the tasks. Throws std::bad_alloc, and std::invalid_argument for
// sizes that cannot be (sizes.h), and for an order that is none.
void run(const SelectiveScan& scan, const Parallel& parallel);
void run(const EfficientScan2D& scan, const Parallel& parallel);
void run(const OrderedScan& scan, const Parallel& parallel);

// Channels of one unit of work: whole cache lines, several side by side as the prefetchers like them.
constexpr int kUnit = 48;
// The widest vector of any instruction set, in floats.
constexpr int kWidest = 16;
// Tokens whose delta, delta * u and y are held in the first-level cache at a time.
constexpr int kBlock = 32;
// Tokens of one unit of the projection.
constexpr int kProjectBlock = 64;

// A sequence of tokens on a grid: token l is row l / inner, column l % inner. Rows and columns that are not valid are
// padding: zero when read, dropped when written. Strides are in floats. Where `places` is not null, token l lies there,
// nowhere where it is negative, and nothing else counts.
struct Tokens {
  int64_t length, inner;
  int64_t inner_valid, outer_valid;
  int64_t inner_stride, outer_stride;
  const int64_t* places;  // (length), in floats
};

// Tokens, (length, channels), times the first `columns` columns of W, (channels, width). `width` is a multiple of
// kWidest, and W is aligned to 64 bytes.
struct Projection {
  Tokens tokens;
  const float* x;
  const float* W;
  const float* zeros;  // `channels` zeros: the padded token
  float* out;          // (length, width)
  int64_t channels, columns, width;
};

// The same on integers. Four rows of W lie together, column by column; shift is what the zero point adds to a column.
struct IntegerProjection {
  Tokens tokens;
  const uint8_t* x;        // rows of `row` bytes
  const int8_t* W;         // (row / 4, width, 4)
  const int32_t* shift;    // (width)
  const float* scale;      // (width): of the tokens times that of the weights
  const uint8_t* padding;  // the padded token: the zero point everywhere
  float* out;              // (length, width)
  int64_t channels, row, columns, width;
};

// `count` channels, at most kUnit, of one sequence. Pointers are at the first of these channels.
struct Unit {
  Tokens tokens;
  const Tokens* results;  // null: y is written where `tokens` lie; else it is added to what is there
  const float* u;
  float* y;
  int count;
  int64_t channels, states;  // the row length of A, dt_proj and delta; N
  const float* A;            // (states, channels)
  const float* skip;         // (channels) or null
  const float* bias;         // (channels) or null
  const float* B;            // (length, states), rows `ldbc` apart
  const float* C;
  int64_t ldbc;
  const int64_t* rows;  // (length) or null: row l of B, C and dt lies there, in floats, not at l * ldbc
  // delta: either given, (length, channels), or dt, (length, rank) with rows `ldbc` apart, times dt_proj,
  // (rank, channels).
  const float* delta;
  const float* dt;
  const float* dt_proj;
  int64_t rank;
  bool softplus;
  float* scratch;  // scratch_floats(states, rank), aligned to 64 bytes
};

inline int64_t scratch_floats(int64_t states, int64_t rank) {
  return (2 * states + rank) * (kUnit + kBlock);
}

struct ConvolvedSequence;  // conv.h
struct GatedNorm;          // norm.h
struct MeanOfNorm;

struct Kernels {
  const char* name;
  void (*project)(const Projection&, int64_t first, int count);  // rows first ... first + count - 1
  void (*round_tokens)(const float* x, const Rounding&, float* out, int64_t count);
  // Null where the instruction set has no faster way than floats that hold the integers.
  void (*quantise_row)(const float* x, const Rounding&, uint8_t* out, int64_t channels);
  void (*project_integers)(const IntegerProjection&, int64_t first, int count);
  void (*scan)(const Unit&);
  void (*convolve)(const ConvolvedSequence&, int64_t first, int64_t count);
  void (*gated_norm)(const GatedNorm&, int64_t first, int64_t rows);
  void (*sum_of_norm)(const MeanOfNorm&, const float* x, int64_t rows, float* sum);  // before scale and bias
  void (*look_up_floats)(const uint8_t* x, const float* table, float* y, int64_t count);  // lookup.h
  void (*look_up_bytes)(const uint8_t* x, const uint8_t* table, uint8_t* y, int64_t count);
  void (*to_float)(const uint16_t* half, float* out, int64_t count);
  void (*to_half)(const float* in, uint16_t* half, int64_t count);
};

extern const Kernels kBaseline;
#if defined(__x86_64__) || defined(_M_X64)
extern const Kernels kAvx2;
extern const Kernels kAvx512;
extern const Kernels kAvx512Vnni;
#endif

const Kernels& kernels();              // the best that this processor runs, or the one that was selected
bool select_kernels(const char* name); // false: no such kernels here

}  // namespace evm

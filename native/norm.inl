// The kernels of norm.h. Included by kernel.inl, once per instruction set.

struct Moments {
  float mean, inverse;  // 1 / sqrt(variance + epsilon)
};

// Two passes over a row that is in the first-level cache: the variance from the centred values does not cancel.
EVM_INLINE Moments moments(const float* x, int64_t channels, float epsilon) {
  const int64_t whole = channels / kLanes * kLanes;
  F sum = {};
  for (int64_t c = 0; c < whole; c += kLanes) sum += load(x + c);
  float total = add_lanes(sum);
  for (int64_t c = whole; c < channels; ++c) total += x[c];
  const float mean = total / static_cast<float>(channels);
  F squares = {};
  for (int64_t c = 0; c < whole; c += kLanes) {
    const F centred = load(x + c) - mean;
    squares = fma(centred, centred, squares);
  }
  float variance = add_lanes(squares);
  for (int64_t c = whole; c < channels; ++c) variance += (x[c] - mean) * (x[c] - mean);
  return {mean, 1.0f / __builtin_sqrtf(variance / static_cast<float>(channels) + epsilon)};
}

// z / (1 + exp(-z))
EVM_INLINE F silu(F z) {
  const F power = min(splat(126.0f), max(splat(-126.0f), z * -1.44269504f));
  return z / (exp2<Reach::kNormal>(power) + 1.0f);
}

static void gated_norm(const GatedNorm& n, int64_t first, int64_t rows) {
  for (int64_t row = first; row < first + rows; ++row) {
    const int64_t at = row * n.channels;
    const Moments m = moments(n.x + at, n.channels, n.epsilon);
    const F inverse = splat(m.inverse);
    for (int64_t c = 0; c < n.channels; c += kLanes) {
      const int count = static_cast<int>(n.channels - c < kLanes ? n.channels - c : kLanes);
      const F normed = (load(n.x + at + c, count) - m.mean) * inverse;
      const F affine = fma(normed, load(n.scale + c, count), load(n.bias + c, count));
      store(n.y + at + c, affine * silu(load(n.z + at + c, count)), count);
    }
  }
}

static void sum_of_norm(const MeanOfNorm& n, const float* x, int64_t rows, float* sum) {
  for (int64_t row = 0; row < rows; ++row, x += n.channels) {
    const Moments m = moments(x, n.channels, n.epsilon);
    const F inverse = splat(m.inverse);
    for (int64_t c = 0; c < n.channels; c += kLanes) {
      const int count = static_cast<int>(n.channels - c < kLanes ? n.channels - c : kLanes);
      store(sum + c, fma(load(x + c, count) - m.mean, inverse, load(sum + c, count)), count);
    }
  }
}

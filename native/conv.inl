// The kernel of conv.h. Included by kernel.inl, once per instruction set.

// Tokens first ... first + count - 1, one after the other: what they need stays in the first-level cache.
static void convolve(const ConvolvedSequence& s, int64_t first, int64_t count) {
  for (int64_t l = first; l < first + count; ++l) {
    const int64_t before = l < s.taps - 1 ? s.taps - 1 - l : 0;  // taps before the first token
    for (int64_t c = 0; c < s.channels; c += kLanes) {
      const int lanes = static_cast<int>(s.channels - c < kLanes ? s.channels - c : kLanes);
      F sum = load(s.bias + c, lanes);
      for (int64_t j = before; j < s.taps; ++j)
        sum = fma(load(s.weight + j * s.channels + c, lanes),
                  load(s.x + s.order[l - s.taps + 1 + j] * s.channels + c, lanes), sum);
      store(s.y + l * s.channels + c, silu(sum), lanes);
    }
  }
}

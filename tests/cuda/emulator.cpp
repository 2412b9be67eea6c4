// A kernel, EVM_ENTRY of EVM_SOURCE, as a library: `emulate` runs a launch. Built once for each set of EVM_ defines.

#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

#include "emulator.h"
//
#include EVM_SOURCE

namespace emulated {

float* shared;
Index thread, block;

namespace {

constexpr size_t kStack = 64 * 1024;

struct Coroutine {
  ucontext_t start;
  jmp_buf at;
  bool started = false, done = false, waiting = false;
  float given[2];  // to the warp, in turns: a fast lane may give again before a slow one has read
  int gives = 0;
};

std::vector<Coroutine> threads;
std::vector<char> stacks;
jmp_buf scheduler;
int current;
void (*body)();
float error;  // of an exponential, relative

void suspend() {
  if (_setjmp(threads[current].at) == 0) _longjmp(scheduler, 1);
}

void run_body() {
  body();
  threads[current].done = true;
  _longjmp(scheduler, 1);
}

void resume(int i) {
  if (_setjmp(scheduler) != 0) return;
  current = i;
  thread = {i};
  Coroutine& it = threads[i];
  if (it.started) _longjmp(it.at, 1);
  it.started = true;
  setcontext(&it.start);
}

}  // namespace

void wait_for_block() {
  threads[current].waiting = true;
  suspend();
}

// Waits until all 32 lanes have given as often as this one.
float exchange(float value, int mask) {
  Coroutine& own = threads[current];
  const int turn = own.gives++, first = current / 32 * 32;
  own.given[turn % 2] = value;
  const auto behind = [&] {
    return std::any_of(&threads[first], &threads[first] + 32, [&](const Coroutine& c) { return c.gives <= turn; });
  };
  while (behind()) suspend();
  return threads[current ^ mask].given[turn % 2];
}

float rounding(float x, float y) {
  if (error == 0.0f || x == 0.0f) return y;
  uint32_t bits;
  memcpy(&bits, &x, 4);
  bits = (bits ^ bits >> 15) * 0x9e3779b1u;
  return y * (1.0f + error * (static_cast<float>(bits >> 8) / 8388608.0f - 1.0f));
}

namespace {

// Memory of just this size, between two pages that may not be touched.
class Guarded {
 public:
  Guarded(size_t bytes, bool at_end) : bytes_(bytes), page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    inside_ = (bytes + page_ - 1) / page_ * page_;
    base_ = static_cast<char*>(
        mmap(nullptr, inside_ + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(base_ + page_, inside_, PROT_READ | PROT_WRITE);
    data = base_ + page_ + (at_end ? inside_ - bytes : 0);
  }
  Guarded(const Guarded&) = delete;
  ~Guarded() { munmap(base_, inside_ + 2 * page_); }
  void protect() { mprotect(base_ + page_, inside_, PROT_READ); }
  char* data;

 private:
  size_t bytes_, page_, inside_;
  char* base_;
};

sigjmp_buf outside;
void on_fault(int) { siglongjmp(outside, 1); }

template <typename... P, size_t... I>
void call(void (*kernel)(P...), void** arguments, std::index_sequence<I...>) {
  kernel(*static_cast<std::remove_reference_t<P>*>(arguments[I])...);
}

template <typename... P>
void call(void (*kernel)(P...), void** arguments) {
  call(kernel, arguments, std::index_sequence_for<P...>{});
}

const auto kernel = EVM_ENTRY;
void** given;

void run_block(int count, int order, uint64_t& random) {
  for (int i = 0; i < count; ++i) {
    threads[i].started = threads[i].done = threads[i].waiting = false;
    threads[i].gives = 0;
    getcontext(&threads[i].start);
    threads[i].start.uc_stack.ss_sp = &stacks[i * kStack];
    threads[i].start.uc_stack.ss_size = kStack;
    threads[i].start.uc_link = nullptr;
    makecontext(&threads[i].start, run_body, 0);
  }
  std::vector<int> turns(count);
  std::iota(turns.begin(), turns.end(), 0);
  if (order == 1) std::reverse(turns.begin(), turns.end());
  for (bool left = true; left;) {
    for (int i = count - 1; order == 2 && i > 0; --i) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      std::swap(turns[i], turns[(random >> 33) % (i + 1)]);
    }
    for (bool ran = true; ran;) {  // until all wait for the block, or are done
      ran = false;
      for (int i : turns)
        if (!threads[i].done && !threads[i].waiting) resume(i), ran = true;
    }
    left = false;
    for (Coroutine& c : threads) left = left || !c.done, c.waiting = false;
  }
}

}  // namespace
}  // namespace emulated

// arguments: of `count`, each a pointer to a tensor of `bytes`, or with 0 bytes to an int; the last is y. order: 0 of
// thread indices, 1 reversed, 2 random. Returns 0, or 1 where a thread left its buffers.
extern "C" int emulate(int blocks, int threads, int shared_bytes, int count, void** arguments, const int64_t* bytes,
                       int order, int at_end, float error) {
  using namespace emulated;
  std::vector<Guarded*> held;
  std::vector<void*> pointers(count), passed(count);
  for (int i = 0; i < count; ++i) {
    passed[i] = arguments[i];
    if (bytes[i] == 0) continue;
    held.push_back(new Guarded(static_cast<size_t>(bytes[i]), at_end));
    memcpy(held.back()->data, arguments[i], static_cast<size_t>(bytes[i]));
    if (i < count - 1) held.back()->protect();
    pointers[i] = held.back()->data;
    passed[i] = &pointers[i];
  }
  Guarded memory(static_cast<size_t>(shared_bytes), at_end);
  shared = reinterpret_cast<float*>(memory.data);
  emulated::threads = std::vector<Coroutine>(threads);
  stacks.resize(threads * kStack);
  emulated::error = error;
  given = passed.data();
  body = [] { call(kernel, given); };

  struct sigaction ours = {}, before;
  ours.sa_handler = on_fault;
  ours.sa_flags = SA_NODEFER;
  sigaction(SIGSEGV, &ours, &before);
  uint64_t random = 1;
  volatile int result = 0;
  if (sigsetjmp(outside, 1) != 0) {
    result = 1;
  } else {
    for (int i = 0; i < blocks; ++i) {
      block = {order == 1 ? blocks - 1 - i : i};
      memset(memory.data, 0xff, static_cast<size_t>(shared_bytes));
      run_block(threads, order, random);
    }
  }
  sigaction(SIGSEGV, &before, nullptr);
  memcpy(arguments[count - 1], held.back()->data, static_cast<size_t>(bytes[count - 1]));
  for (Guarded* g : held) delete g;
  return result;
}

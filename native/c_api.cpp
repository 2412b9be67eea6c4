#include "c_api.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <new>
#include <stdexcept>
#include <thread>
#include <vector>

#include "conv.h"
#include "scan.h"

namespace {

// Threads that live for one operator: starting one costs a few tens of microseconds, which these operators are worth.
evm::Parallel on_threads(int64_t threads) {
  return [threads](int64_t count, const evm::Task& task) {
    std::atomic<int64_t> next{0};
    std::atomic<bool> out_of_memory{false};
    auto work = [&] {
      try {
        for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) task(i);
      } catch (const std::bad_alloc&) {
        out_of_memory = true;
      }
    };
    std::vector<std::thread> others;
    try {
      for (int64_t wanted = std::min(threads, count); wanted > 1; --wanted) others.emplace_back(work);
    } catch (const std::exception&) {
      // The system gives no more threads, or no memory for them: those there are do all the work.
    }
    work();
    for (std::thread& other : others) other.join();
    if (out_of_memory) throw std::bad_alloc();
  };
}

template <class Scan>
int run_on(const Scan& scan, int64_t threads) {
  try {
    evm::run(scan, on_threads(threads));
  } catch (const std::bad_alloc&) {
    return EVM_OUT_OF_MEMORY;
  } catch (const std::invalid_argument&) {
    return EVM_BAD_ARGUMENT;
  }
  return EVM_OK;
}

}  // namespace

const char* evm_interface(void) { return "evm_ops interface 3"; }

const char* evm_isa(void) { return evm::kernels().name; }

int evm_set_isa(const char* name) { return name && evm::select_kernels(name) ? 0 : 1; }

int evm_selective_scan_f32(const evm_selective_scan_args* a) {
  if (!a || !a->u || !a->delta || !a->A || !a->B || !a->C || !a->y) return EVM_BAD_ARGUMENT;
  if (a->batch < 0 || a->groups < 0 || a->length < 0 || a->channels < 0 || a->states < 0 || a->threads < 1)
    return EVM_BAD_ARGUMENT;
  const evm::SelectiveScan scan = {a->batch, a->groups, a->length, a->channels, a->states, a->delta_softplus != 0,
                                   a->u, a->delta, a->A, a->B, a->C, a->D, a->delta_bias, a->y};
  return run_on(scan, a->threads);
}

int evm_efficient_scan_2d_f32(const evm_efficient_scan_2d_args* a) {
  if (!a || !a->x || !a->x_proj || !a->dt_proj || !a->dt_bias || !a->A || !a->D || !a->y) return EVM_BAD_ARGUMENT;
  if (a->batch < 0 || a->height < 0 || a->width < 0 || a->channels < 0 || a->states < 0 || a->rank < 0 || a->step < 1 ||
      a->threads < 1)
    return EVM_BAD_ARGUMENT;
  const evm::EfficientScan2D scan = {a->batch, a->height, a->width, a->channels, a->states, a->rank, a->step,
                                     a->x, a->x_proj, a->dt_proj, a->dt_bias, a->A, a->D, a->y, nullptr};
  return run_on(scan, a->threads);
}

int evm_ordered_scan_f32(const evm_ordered_scan_args* a) {
  if (!a || !a->x || !a->x_proj || !a->dt_proj || !a->dt_bias || !a->A || !a->D || !a->order || !a->back || !a->y)
    return EVM_BAD_ARGUMENT;
  for (const int64_t size : {a->batch, a->tokens, a->groups, a->length, a->channels, a->states, a->rank, a->summed,
                             a->results, a->threads - 1})
    if (size < 0) return EVM_BAD_ARGUMENT;
  const evm::OrderedScan scan = {a->batch, a->tokens, a->groups, a->length, a->channels, a->states, a->rank, a->summed,
                                 a->results, a->x, a->x_proj, a->dt_proj, a->dt_bias, a->A, a->D, a->order, a->back,
                                 a->y};
  return run_on(scan, a->threads);
}

int evm_causal_conv_f32(const evm_causal_conv_args* a) {
  if (!a || !a->x || !a->weight || !a->bias || !a->order || !a->y) return EVM_BAD_ARGUMENT;
  for (const int64_t size : {a->batch, a->tokens, a->groups, a->length, a->channels, a->taps, a->threads - 1})
    if (size < 0) return EVM_BAD_ARGUMENT;
  const evm::CausalConv conv = {a->batch, a->tokens, a->groups, a->length, a->channels, a->taps,
                                a->x, a->weight, a->bias, a->order, a->y};
  return run_on(conv, a->threads);
}

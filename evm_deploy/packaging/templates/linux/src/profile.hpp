// Latency on this machine, as a document of evm-deploy's profile schema, version 1.
#pragma once

#include <string>
#include <vector>

#include "evm_deploy.hpp"

namespace evm {

struct Timing {
  int iterations = 100;
  double seconds = 0;  // of each model, instead of iterations, where above 0
  int warm_up = 5;     // least runs before times can count as steady
};

// Times all bundles in turns in this process. Each is first opened in a separate process, to measure its memory.
std::string profile(const std::vector<std::string>& bundles, const Options& options, const Timing& timing);

}  // namespace evm

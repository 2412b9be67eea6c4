// Latency on this machine, as a document of evm-deploy's profile schema, version 1.
#pragma once

#include <string>
#include <vector>

#include "evm_deploy.hpp"

namespace evm {

struct Timing {
  int iterations = 100;
  double seconds = 0;  // of each model, instead of iterations, where above 0
  int warm_up = 5;     // least runs before it is asked whether times are steady
};

// Every bundle in turns in this process, each opened first in a process of its own for its memory.
std::string profile(const std::vector<std::string>& bundles, const Options& options, const Timing& timing);

}  // namespace evm

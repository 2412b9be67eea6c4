// The facts about this machine that belong to a measurement.
#pragma once

#include <string>

namespace evm {

// JSON objects of the profile's schema: `device`, and a snapshot for `conditions`.
std::string device_json();
std::string snapshot_json();

// The most memory that this process held, in bytes; 0 where the system does not say.
size_t peak_memory();

// The time, UTC, in ISO 8601.
std::string now();

}  // namespace evm

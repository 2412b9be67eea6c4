// onnxruntime, loaded at run time: it needs no headers, and works with any version from 1.17 on.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "evm_deploy.hpp"

namespace evm {

// The operator library for `options`; "" if it is not wanted or does not exist.
std::string operators_of(const Options& options);

// An output, whatever its type, as float32: classes are whole numbers that it holds exactly.
struct Output {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

class Session {
 public:
  // Throws Error: no onnxruntime, no such operator library, or onnxruntime refuses the model.
  Session(const Bytes& model, const Options& options, const std::string& operators);
  ~Session();

  struct Tensor {
    std::string name;
    std::vector<int64_t> shape;
    const void* data = nullptr;
    size_t bytes = 0;
    bool uint8 = false;  // otherwise float32
  };

  // One run. Throws Error: onnxruntime refuses it, or an output has no such numbers.
  std::vector<Output> run(const std::vector<Tensor>& inputs, const std::vector<std::string>& outputs);

  const std::string& version() const;

 private:
  struct Handles;
  std::unique_ptr<Handles> handles_;
};

}  // namespace evm

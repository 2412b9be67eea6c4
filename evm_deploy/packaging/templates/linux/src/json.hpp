// A reader of untrusted JSON: any text gives a value or an Error.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "evm_deploy.hpp"

namespace evm::json {

struct Value {
  enum class Kind { null, boolean, number, text, array, object } kind = Kind::null;
  bool truth = false;
  double number = 0;
  std::string text;
  std::vector<Value> items;
  std::map<std::string, Value> members;

  // Each throws Error for a value of another kind.
  const Value& at(const std::string& key) const;  // throws where there is none
  const Value* find(const std::string& key) const;  // null where there is none, or null
  const std::vector<Value>& array() const;
  const std::string& string() const;
  double real() const;
  int64_t integer() const;  // a whole number of at most 2^53
  bool boolean() const;
};

Value parse(const std::string& text);

// `text` in quotation marks, as JSON; bytes above 126 as they are.
std::string quoted(const std::string& text);

}  // namespace evm::json

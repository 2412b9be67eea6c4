#include "json.hpp"

#include <cmath>
#include <locale>
#include <sstream>

namespace evm::json {
namespace {

constexpr int kDeepest = 64;

class Reader {
 public:
  explicit Reader(const std::string& text) : text_(text) {}

  Value whole() {
    Value value = one(0);
    space();
    if (at_ != text_.size()) fail();
    return value;
  }

 private:
  [[noreturn]] void fail() const { throw Error("not JSON, at byte " + std::to_string(at_)); }

  void space() {
    while (at_ < text_.size() && std::string(" \t\r\n").find(text_[at_]) != std::string::npos) ++at_;
  }

  char peek() {
    space();
    if (at_ == text_.size()) fail();
    return text_[at_];
  }

  void expect(char wanted) {
    if (peek() != wanted) fail();
    ++at_;
  }

  bool take(const std::string& word) {
    if (text_.compare(at_, word.size(), word) != 0) return false;
    at_ += word.size();
    return true;
  }

  Value one(int depth) {
    if (depth > kDeepest) fail();
    Value value;
    switch (peek()) {
      case '{': object(value, depth); break;
      case '[': array(value, depth); break;
      case '"': value.kind = Value::Kind::text; value.text = string(); break;
      case 't': value.kind = Value::Kind::boolean; value.truth = true; if (!take("true")) fail(); break;
      case 'f': value.kind = Value::Kind::boolean; if (!take("false")) fail(); break;
      case 'n': if (!take("null")) fail(); break;
      default: value.kind = Value::Kind::number; value.number = number();
    }
    return value;
  }

  void object(Value& value, int depth) {
    value.kind = Value::Kind::object;
    expect('{');
    if (peek() == '}') { ++at_; return; }
    for (;;) {
      if (peek() != '"') fail();
      std::string key = string();
      expect(':');
      if (!value.members.emplace(std::move(key), one(depth + 1)).second) fail();  // a key twice: which one counts?
      if (peek() == '}') { ++at_; return; }
      expect(',');
    }
  }

  void array(Value& value, int depth) {
    value.kind = Value::Kind::array;
    expect('[');
    if (peek() == ']') { ++at_; return; }
    for (;;) {
      value.items.push_back(one(depth + 1));
      if (peek() == ']') { ++at_; return; }
      expect(',');
    }
  }

  double number() {
    const size_t begin = at_;
    while (at_ < text_.size() && std::string("+-.eE0123456789").find(text_[at_]) != std::string::npos) ++at_;
    std::istringstream stream(text_.substr(begin, at_ - begin));
    stream.imbue(std::locale::classic());  // strtod would take the user's decimal comma
    double value = 0;
    stream >> value;
    if (at_ == begin || stream.fail() || !stream.eof() || !std::isfinite(value)) fail();
    return value;
  }

  std::string string() {
    std::string out;
    for (++at_;; ++at_) {
      if (at_ >= text_.size() || static_cast<unsigned char>(text_[at_]) < 32) fail();
      if (text_[at_] == '"') { ++at_; return out; }
      if (text_[at_] == '\\') escaped(out); else out += text_[at_];
    }
  }

  void escaped(std::string& out) {  // leaves at_ at the last byte of the escape
    static const std::string from = "\"\\/bfnrt", to = "\"\\/\b\f\n\r\t";
    if (++at_ >= text_.size()) fail();
    const size_t simple = from.find(text_[at_]);
    if (simple != std::string::npos) { out += to[simple]; return; }
    if (text_[at_] != 'u') fail();
    uint32_t code = hex4();
    if (code >= 0xD800 && code < 0xDC00 && text_.compare(at_ + 1, 2, "\\u") == 0) {
      at_ += 2;
      const uint32_t low = hex4();
      if (low < 0xDC00 || low > 0xDFFF) fail();
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    if (code >= 0xD800 && code < 0xE000) fail();
    utf8(code, out);
  }

  uint32_t hex4() {
    uint32_t code = 0;
    for (int i = 0; i < 4; ++i) {
      if (++at_ >= text_.size()) fail();
      const size_t digit = std::string("0123456789abcdef0123456789ABCDEF").find(text_[at_]);
      if (digit == std::string::npos) fail();
      code = code * 16 + static_cast<uint32_t>(digit % 16);
    }
    return code;
  }

  static void utf8(uint32_t code, std::string& out) {
    const auto low = [&](int shift) { out += static_cast<char>(0x80 | ((code >> shift) & 0x3F)); };
    if (code < 0x80) { out += static_cast<char>(code); }
    else if (code < 0x800) { out += static_cast<char>(0xC0 | (code >> 6)); low(0); }
    else if (code < 0x10000) { out += static_cast<char>(0xE0 | (code >> 12)); low(6); low(0); }
    else { out += static_cast<char>(0xF0 | (code >> 18)); low(12); low(6); low(0); }
  }

  const std::string& text_;
  size_t at_ = 0;
};

const Value& checked(const Value& value, Value::Kind kind, const char* what) {
  if (value.kind != kind) throw Error(std::string("a value in the JSON is not ") + what);
  return value;
}

}  // namespace

Value parse(const std::string& text) { return Reader(text).whole(); }

const Value* Value::find(const std::string& key) const {
  checked(*this, Kind::object, "an object");
  const auto found = members.find(key);
  return found == members.end() || found->second.kind == Kind::null ? nullptr : &found->second;
}

const Value& Value::at(const std::string& key) const {
  const Value* found = find(key);
  if (!found) throw Error("the JSON has no " + key);
  return *found;
}

const std::vector<Value>& Value::array() const { return checked(*this, Kind::array, "an array").items; }
const std::string& Value::string() const { return checked(*this, Kind::text, "a string").text; }
double Value::real() const { return checked(*this, Kind::number, "a number").number; }
bool Value::boolean() const { return checked(*this, Kind::boolean, "true or false").truth; }

int64_t Value::integer() const {
  const double value = real();
  if (value != std::floor(value) || std::fabs(value) > 9007199254740992.0) throw Error("a number is not a whole one");
  return static_cast<int64_t>(value);
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char each : text) {
    const auto code = static_cast<unsigned char>(each);
    if (each == '"' || each == '\\') out += '\\';
    if (code >= 32) { out += each; continue; }
    const char* digits = "0123456789abcdef";
    out += std::string("\\u00") + digits[code >> 4] + digits[code & 15];
  }
  return out + '"';
}

}  // namespace evm::json

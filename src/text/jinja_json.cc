// SPDX-License-Identifier: Apache-2.0
// JSON in both directions: the variables of a render, and the filter `tojson`. One thread.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "text/jinja_filters.h"
#include "text/jinja_unicode.h"

namespace trireme::jinja {
namespace {

using Json = nlohmann::json;

// Builds values as the parser reports them, so that object order and wide integers survive.
class Builder : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(Runtime& rt) : rt_(rt) {}

  bool null() override { return Add(Value()); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(Json::number_integer_t value) override { return Add(int64_t{value}); }
  bool number_unsigned(Json::number_unsigned_t value) override {
    if (value <= INT64_MAX) return Add(static_cast<int64_t>(value));
    return Add(rt_.BigInt(std::to_string(value)));
  }
  bool number_float(Json::number_float_t value, const std::string& text) override {
    if (text.find_first_of(".eE") == std::string::npos) return Add(rt_.BigInt(text));
    return Add(value);
  }
  bool string(std::string& value) override { return Add(rt_.String(std::move(value))); }
  bool binary(Json::binary_t&) override { return false; }
  bool start_object(size_t) override { return Open(); }
  bool start_array(size_t) override { return Open(); }
  bool key(std::string& name) override {
    levels_.back().keys.push_back(rt_.String(std::move(name)));
    return true;
  }
  bool end_object() override {
    Level level = std::move(levels_.back());
    levels_.pop_back();
    Value dict = rt_.NewDict();
    for (size_t i = 0; i < level.keys.size(); ++i) {
      dict.dict().Set(rt_, std::move(level.keys[i]), std::move(level.items[i]));
    }
    rt_.SealDict(dict);
    return Add(std::move(dict));
  }
  bool end_array() override {
    Level level = std::move(levels_.back());
    levels_.pop_back();
    return Add(rt_.List(std::move(level.items)));
  }
  bool parse_error(size_t position, const std::string& token, const Json::exception&) override {
    error_position_ = position;
    return false;
  }

  Value result;
  size_t error_position() const { return error_position_; }

 private:
  struct Level {
    std::vector<Value> keys;
    std::vector<Value> items;
  };

  bool Open() {
    if (levels_.size() >= kMaxNesting) {
      FailLimit(fmt::format("JSON is nested deeper than {} levels", kMaxNesting));
    }
    levels_.emplace_back();
    return true;
  }

  bool Add(Value value) {
    if (levels_.empty()) {
      result = std::move(value);
    } else {
      levels_.back().items.push_back(std::move(value));
    }
    return true;
  }

  Runtime& rt_;
  std::vector<Level> levels_;
  size_t error_position_ = 0;
};

}  // namespace

Value ParseJson(Runtime& rt, std::string_view text, std::string_view what) {
  Builder builder(rt);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) {
    Fail("{} is not valid JSON at byte {}", what, builder.error_position());
  }
  return builder.result;
}

namespace {

struct JsonStyle {
  bool ascii = false;
  bool sort_keys = false;
  bool lines = false;
  std::string indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};

void AppendEscape(uint32_t unit, std::string* out) {
  fmt::format_to(std::back_inserter(*out), "\\u{:04x}", unit);
}

void AppendJsonString(Runtime& rt, std::string_view text, const JsonStyle& style,
                      std::string* out) {
  rt.CheckSize(out->size() + text.size());
  rt.StepBytes(text.size());
  out->push_back('"');
  for (size_t i = 0; i < text.size();) {
    const size_t start = i;
    const uint32_t code = DecodeAt(text, &i);
    switch (code) {
      case '"': out->append("\\\""); continue;
      case '\\': out->append("\\\\"); continue;
      case '\n': out->append("\\n"); continue;
      case '\r': out->append("\\r"); continue;
      case '\t': out->append("\\t"); continue;
      case '\b': out->append("\\b"); continue;
      case '\f': out->append("\\f"); continue;
      default: break;
    }
    if (code < 0x20 || (style.ascii && code >= 0x7F && code < 0x10000)) {
      AppendEscape(code, out);
    } else if (style.ascii && code >= 0x10000) {
      AppendEscape(0xD800 + ((code - 0x10000) >> 10), out);
      AppendEscape(0xDC00 + ((code - 0x10000) & 0x3FF), out);
    } else {
      out->append(text.substr(start, i - start));
    }
  }
  out->push_back('"');
}

std::string JsonFloat(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return FloatRepr(value);
}

class JsonWriter {
 public:
  JsonWriter(Runtime& rt, const JsonStyle& style, std::string* out)
      : rt_(rt), style_(style), out_(out) {}

  void Write(const Value& value, size_t level) {
    rt_.Step();
    rt_.CheckSize(out_->size());
    switch (value.type()) {
      case Type::kNone: out_->append("null"); return;
      case Type::kBool: out_->append(value.bool_value() ? "true" : "false"); return;
      case Type::kFloat: out_->append(JsonFloat(value.float_value())); return;
      case Type::kInt:
      case Type::kBigInt: AppendStr(rt_, value, out_); return;
      case Type::kString: AppendJsonString(rt_, value.text(), style_, out_); return;
      case Type::kDict: WriteDict(value.dict(), level); return;
      case Type::kSequence: {
        const SequenceObject& sequence = value.sequence();
        if (sequence.kind != SequenceKind::kList && !sequence.is_tuple()) break;
        return WriteList(sequence.items, level);
      }
      default: break;
    }
    Fail("Object of type {} is not JSON serializable", TypeName(value));
  }

 private:
  void NewLine(size_t level) {
    if (!style_.lines) return;
    rt_.CheckSize(out_->size() + level * style_.indent.size());
    out_->push_back('\n');
    for (size_t i = 0; i < level; ++i) out_->append(style_.indent);
  }

  void WriteList(const std::vector<Value>& items, size_t level) {
    if (items.empty()) {
      out_->append("[]");
      return;
    }
    out_->push_back('[');
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_->append(style_.item_separator);
      NewLine(level + 1);
      Write(items[i], level + 1);
    }
    NewLine(level);
    out_->push_back(']');
  }

  void WriteKey(const Value& key) {
    std::string text;
    if (key.is_none()) {
      text = "null";
    } else if (key.is_bool()) {
      text = key.bool_value() ? "true" : "false";
    } else if (key.is_float()) {
      text = JsonFloat(key.float_value());
    } else if (key.is_integral() || key.is_string() || key.type() == Type::kBigInt) {
      text = Str(rt_, key);
    } else {
      Fail("keys must be str, int, float, bool or None, not {}", TypeName(key));
    }
    AppendJsonString(rt_, text, style_, out_);
  }

  void WriteDict(const DictObject& dict, size_t level) {
    if (dict.entries.empty()) {
      out_->append("{}");
      return;
    }
    std::vector<const std::pair<Value, Value>*> order;
    for (const auto& entry : dict.entries) order.push_back(&entry);
    if (style_.sort_keys) {
      std::stable_sort(order.begin(), order.end(),
                       [&](const auto* a, const auto* b) { return Less(rt_, a->first, b->first); });
    }
    out_->push_back('{');
    bool first = true;
    for (const auto* entry : order) {
      if (!first) out_->append(style_.item_separator);
      first = false;
      NewLine(level + 1);
      WriteKey(entry->first);
      out_->append(style_.key_separator);
      Write(entry->second, level + 1);
    }
    NewLine(level);
    out_->push_back('}');
  }

  Runtime& rt_;
  const JsonStyle& style_;
  std::string* const out_;
};

}  // namespace

Value ToJson(Runtime& rt, const Value& value, const Args& args) {
  const BoundArgs bound("tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii = bound.Bool(rt, 0, false);
  style.sort_keys = bound.Bool(rt, 3, false);
  if (bound.HasValue(1)) {
    style.lines = true;
    style.item_separator = ",";
    if (bound[1].is_string()) {
      style.indent = bound[1].text();
    } else {
      const int64_t width = std::max<int64_t>(bound.Int(1, 0), 0);
      rt.CheckSize(static_cast<uint64_t>(width));
      style.indent.assign(static_cast<size_t>(width), ' ');
    }
  }
  if (bound.HasValue(2)) {
    const std::vector<Value> two = Iterate(rt, bound[2]);
    if (two.size() != 2 || !two[0].is_string() || !two[1].is_string()) {
      Fail("tojson() argument 'separators' must be two str");
    }
    style.item_separator = two[0].text();
    style.key_separator = two[1].text();
  }
  std::string out;
  JsonWriter(rt, style, &out).Write(value, 0);
  return rt.String(std::move(out));
}

}  // namespace trireme::jinja

// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/json_keys.h"

#include <algorithm>
#include <cmath>

#include "core/concat.h"
#include "core/message_text.h"

namespace temper {
namespace {

const Json& empty_object() {
  static const Json kEmpty = Json::object();
  return kEmpty;
}

bool says_nothing(const Json& value) {
  if (value.is_string()) return value.get_ref<const std::string&>().empty();
  return value == false || value.empty();
}

}  // namespace

JsonKeys::JsonKeys(const Json& object, std::string prefix, std::vector<std::string>& problems)
    : object_(object.is_object() ? object : empty_object()),
      prefix_(std::move(prefix)),
      problems_(problems) {
  if (object.is_object()) return;
  problems_.push_back(concat(prefix_.empty() ? "the content" : prefix_, " is not a JSON object"));
}

bool JsonKeys::has(const char* key) const {
  asked_.insert(key);
  return object_.contains(key) && !object_[key].is_null();
}

bool JsonKeys::is_null(const char* key) const {
  asked_.insert(key);
  return object_.contains(key) && object_[key].is_null();
}

JsonKeys JsonKeys::below(const char* key) const {
  return {has(key) ? object_[key] : empty_object(), concat(prefix_, key, '.'), problems_};
}

int64_t JsonKeys::integer(const char* key, Range allowed, std::optional<int64_t> fallback) const {
  if (!has(key)) {
    if (!fallback) refuse(key, "is missing");
    return fallback.value_or(allowed.begin);
  }
  const Json& value = object_[key];
  const bool fits = value.is_number_unsigned()
                        ? value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX)
                        : value.is_number_integer();
  const int64_t number = fits ? value.get<int64_t>() : -1;
  if (fits && number >= allowed.begin && number < allowed.end) return number;
  std::string wanted = concat("a whole number of at least ", allowed.begin);
  if (fits && number >= allowed.end) wanted += concat(" and below ", allowed.end);
  refuse_value(key, wanted);
  return fallback.value_or(allowed.begin);
}

double JsonKeys::positive(const char* key, std::optional<double> fallback) const {
  if (!has(key)) {
    if (!fallback) refuse(key, "is missing");
    return fallback.value_or(1.0);
  }
  const Json& value = object_[key];
  if (value.is_number() && value.get<double>() > 0.0 && std::isfinite(value.get<double>())) {
    return value.get<double>();
  }
  refuse_value(key, "a positive number");
  return fallback.value_or(1.0);
}

bool JsonKeys::flag(const char* key, bool fallback) const {
  if (!has(key)) return fallback;
  if (object_[key].is_boolean()) return object_[key].get<bool>();
  refuse_value(key, "true or false");
  return fallback;
}

std::string JsonKeys::text(const char* key) const {
  if (!has(key)) {
    refuse(key, "is missing");
  } else if (!object_[key].is_string()) {
    refuse_value(key, "a string");
  } else {
    return object_[key].get<std::string>();
  }
  return {};
}

void JsonKeys::require(const char* key, const Json& value) const {
  if (has(key) && object_[key] != value) refuse_value(key, shown(value));
}

void JsonKeys::refuse(const char* key, const std::string& problem) const {
  problems_.push_back(concat(prefix_, key, ' ', problem));
}

void JsonKeys::refuse_value(const char* key, const std::string& wanted) const {
  refuse(key, concat("is ", shown(object_[key]), ", wanted ", wanted));
}

std::vector<std::string> JsonKeys::others(std::span<const char* const> harmless) const {
  std::vector<std::string> found;
  for (const auto& [key, value] : object_.items()) {
    const bool is_harmless = std::ranges::find(harmless, key) != harmless.end();
    if (!is_harmless && !says_nothing(value) && !asked_.contains(key)) found.push_back(key);
  }
  return found;
}

void JsonKeys::refuse_others(std::span<const char* const> harmless) const {
  for (const std::string& key : others(harmless)) {
    refuse(quote(key).c_str(),
           concat("is ", shown(object_[key]), ", a key that is not known here"));
  }
}

Json python_number(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e15) return static_cast<int64_t>(value);
  return value;
}

}  // namespace temper

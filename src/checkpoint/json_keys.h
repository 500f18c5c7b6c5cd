// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/range.h"
#include "io/json.h"

namespace temper {

/// Takes values out of one JSON object and collects all that is wrong with them.
///
/// A null is as good as an absent key. After a problem a harmless value is returned, so that the
/// caller can go on and find the others; it throws at the end if there are any.
class JsonKeys {
 public:
  /// `prefix` goes before each key in messages. Both references must outlive this object. Anything
  /// but an object is itself a problem, and has no keys.
  JsonKeys(const Json& object, std::string prefix, std::vector<std::string>& problems);

  bool has(const char* key) const;
  bool is_null(const char* key) const;

  /// The value of a key that `has`.
  const Json& operator[](const char* key) const { return object_[key]; }

  /// A whole number in `allowed`. Without a fallback the key must be there.
  int64_t integer(const char* key, Range allowed, std::optional<int64_t> fallback = {}) const;

  /// A finite number above zero. Without a fallback the key must be there.
  double positive(const char* key, std::optional<double> fallback = {}) const;

  bool flag(const char* key, bool fallback) const;

  /// The keys of the object at `key`; none if it is absent.
  JsonKeys below(const char* key) const;

  /// A string. The key must be there.
  std::string text(const char* key) const;

  /// Notes a problem unless the key is absent or has this value.
  void require(const char* key, const Json& value) const;

  void refuse(const char* key, const std::string& problem) const;

  /// The keys that have a value, that nobody has asked for by now, and that are not among the
  /// `harmless` ones. Null, false and what is empty say that nothing is set.
  std::vector<std::string> others(std::span<const char* const> harmless) const;

  /// Notes a problem for each of these.
  void refuse_others(std::span<const char* const> harmless) const;

 private:
  void refuse_value(const char* key, const std::string& wanted) const;

  const Json& object_;
  std::string prefix_;
  mutable std::set<std::string, std::less<>> asked_;
  std::vector<std::string>& problems_;
};

/// A number as Python's libraries write it: a whole one without a point.
Json python_number(double value);

}  // namespace temper

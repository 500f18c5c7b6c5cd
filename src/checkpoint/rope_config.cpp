// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/rope_config.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "checkpoint/config_keys.h"
#include "core/concat.h"
#include "io/json.h"

namespace temper {
namespace {

using RopeScaling = RopeOptions::Scaling;

constexpr Range kContexts{1, int64_t{1} << 40};
constexpr const char* kOriginal = "original_max_position_embeddings";

// One table's settings.
struct RopeTable {
  const JsonKeys& keys;
  const JsonKeys& top;
  const Family& family;
  const ModelConfig& config;
  bool is_nested;  // One of two.
};

// The reference lets the key at the top win, and falls back to the whole context; Phi's class has
// such a key in any case.
int64_t original_positions(const RopeTable& table) {
  constexpr int64_t kOfPhi = 4096;
  if (table.family.has_longrope) return table.top.integer(kOriginal, kContexts, kOfPhi);
  const bool is_at_top = !table.is_nested && table.top.has(kOriginal);
  const JsonKeys& source = is_at_top ? table.top : table.keys;
  return source.integer(kOriginal, kContexts, table.config.max_positions);
}

// By how much the context has grown.
double growth(const RopeTable& table, const RopeOptions& rope) {
  return static_cast<double>(table.config.max_positions) /
         static_cast<double>(rope.original_max_positions);
}

void read_llama3(const RopeTable& table, RopeOptions& rope) {
  rope.factor = table.keys.positive("factor");
  rope.low_frequency_factor = table.keys.positive("low_freq_factor");
  rope.high_frequency_factor = table.keys.positive("high_freq_factor");
  if (rope.high_frequency_factor <= rope.low_frequency_factor) {
    table.keys.refuse("high_freq_factor", "must be greater than low_freq_factor");
  }
}

double number_or_zero(const JsonKeys& keys, const char* key) {
  const bool is_zero = keys.has(key) && keys[key] == 0;
  return is_zero ? 0.0 : keys.positive(key, 0.0);
}

// By how much attention grows sharper with the context, times a weight.
double sharpness(double factor, double weight) {
  return factor <= 1.0 ? 1.0 : 0.1 * weight * std::log(factor) + 1.0;
}

void read_yarn(const RopeTable& table, RopeOptions& rope) {
  const JsonKeys& keys = table.keys;
  const auto non_zero = [&](const char* key, double fallback) {
    const double value = number_or_zero(keys, key);
    return value > 0.0 ? value : fallback;
  };
  rope.factor = keys.is_null("factor") ? growth(table, rope) : keys.positive("factor");
  rope.fast_rotations = non_zero("beta_fast", rope.fast_rotations);
  rope.slow_rotations = non_zero("beta_slow", rope.slow_rotations);
  // Of two tables, the reference looks for this key beside them.
  rope.has_whole_range = table.is_nested || keys.flag("truncate", true);
  const double scale = number_or_zero(keys, "mscale"), all = number_or_zero(keys, "mscale_all_dim");
  const double fallback = scale > 0.0 && all > 0.0
                              ? sharpness(rope.factor, scale) / sharpness(rope.factor, all)
                              : sharpness(rope.factor, 1.0);
  rope.attention_factor = keys.positive("attention_factor", fallback);
}

std::vector<double> read_factors(const RopeTable& table, const char* key, int64_t count) {
  std::vector<double> factors;
  const Json& value = table.keys.has(key) ? table.keys[key] : Json();
  if (value.is_array()) {
    for (const Json& one : value) {
      if (one.is_number() && one.get<double>() > 0.0) factors.push_back(one.get<double>());
    }
  }
  if (value.is_array() && std::ssize(value) == count && std::ssize(factors) == count) {
    return factors;
  }
  table.keys.refuse(key, concat("is not a list of ", count, " positive numbers"));
  return std::vector<double>(static_cast<size_t>(count), 1.0);
}

void read_longrope(const RopeTable& table, RopeOptions& rope) {
  const int64_t rotated = rope.num_rotated > 0 ? rope.num_rotated : table.config.head_dim;
  rope.short_factors = read_factors(table, "short_factor", rotated / 2);
  rope.long_factors = read_factors(table, "long_factor", rotated / 2);
  const double factor = table.keys.positive("factor", growth(table, rope));
  const double context = std::log(static_cast<double>(rope.original_max_positions));
  rope.attention_factor = table.keys.positive(
      "attention_factor", factor <= 1.0 ? 1.0 : std::sqrt(1.0 + std::log(factor) / context));
}

// Up to the context of the model `dynamic` changes nothing, and beyond it nothing is computed.
void read_dynamic(const RopeTable& table, RopeOptions& rope) {
  if (!table.family.has_rope_alpha || !table.keys.has("alpha")) return;
  const auto size = static_cast<double>(table.config.head_dim);
  rope.theta *= std::pow(table.keys.positive("alpha"), size / (size - 2.0));
}

std::optional<RopeScaling> scaling_named(const RopeTable& table, const std::string& type) {
  const bool is_phi = table.family.has_longrope;
  if (type == "default" || (type == "dynamic" && !is_phi)) return RopeScaling::kNone;
  if (type == "longrope" || (is_phi && (type == "su" || type == "yarn"))) {
    return RopeScaling::kLongRope;
  }
  if (is_phi) return {};
  if (type == "linear") return RopeScaling::kLinear;
  if (type == "llama3") return RopeScaling::kLlama3;
  if (type == "yarn") return RopeScaling::kYarn;
  return {};
}

void read_scaling(const RopeTable& table, RopeOptions& rope) {
  const char* kind = table.keys.has("rope_type") ? "rope_type" : "type";
  const std::string type = table.keys.has(kind) ? table.keys.text(kind) : "default";
  const std::optional<RopeScaling> scaling = scaling_named(table, type);
  if (!scaling) {
    return table.keys.refuse(
        kind,
        concat("is ", shown(type), "; computed are ",
               table.family.has_longrope ? "default and longrope"
                                         : "default, linear, dynamic, llama3, yarn and longrope"));
  }
  rope.scaling = *scaling;
  const bool has_original = rope.scaling == RopeScaling::kLlama3 ||
                            rope.scaling == RopeScaling::kYarn ||
                            rope.scaling == RopeScaling::kLongRope || table.family.has_query_growth;
  if (has_original) rope.original_max_positions = original_positions(table);
  switch (rope.scaling) {
    case RopeScaling::kNone: return read_dynamic(table, rope);
    case RopeScaling::kLinear: rope.factor = table.keys.positive("factor"); return;
    case RopeScaling::kLlama3: return read_llama3(table, rope);
    case RopeScaling::kYarn: return read_yarn(table, rope);
    case RopeScaling::kLongRope: return read_longrope(table, rope);
  }
}

// How much of a head is rotated. 0: all of it.
int64_t read_rotated(const RopeTable& table) {
  const char* key = "partial_rotary_factor";
  if (!table.family.knows_rotated_share) {
    table.top.require(key, 1.0);
    table.keys.require(key, 1.0);
    return 0;
  }
  const double at_top = table.top.positive(key, table.family.default_rotated_share);
  const double share = table.keys.positive(key, at_top);
  const auto rotated = static_cast<int64_t>(static_cast<double>(table.config.head_dim) * share);
  if (share > 1.0 || rotated < 2 || rotated % 2 != 0) {
    table.keys.refuse(
        key, concat("is ", share, ": of a head of ", table.config.head_dim, " numbers ", rotated,
                    " would be rotated, wanted an even number of them"));
    return 0;
  }
  return rotated == table.config.head_dim ? 0 : rotated;
}

RopeOptions read_table(const RopeTable& table, double theta, std::vector<std::string>& unknown_keys,
                       const std::string& name) {
  RopeOptions rope;
  rope.pairs = table.family.pairs;
  rope.theta = table.keys.positive("rope_theta", theta);
  rope.num_rotated = read_rotated(table);
  read_scaling(table, rope);
  if (table.family.has_query_growth) {
    rope.query_growth = table.keys.positive("llama_4_scaling_beta");
  }
  for (const std::string& key : sort_out_rope_keys(table.keys)) {
    unknown_keys.push_back(concat(name, '.', key));
  }
  return rope;
}

const Json& empty_section() {
  static const Json kEmpty = Json::object();
  return kEmpty;
}

}  // namespace

void read_rope(const JsonKeys& top, const Family& family, ModelConfig& config,
               std::vector<std::string>& problems, std::vector<std::string>& unknown_keys) {
  const double theta = top.positive("rope_theta", family.default_theta);
  const bool is_old = top.has("rope_scaling") && !top["rope_scaling"].empty();
  const bool is_new = top.has("rope_parameters") && !top["rope_parameters"].empty();
  const std::string name = is_old ? "rope_scaling" : "rope_parameters";
  const bool is_given = is_old || is_new;
  const Json fallback =
      family.default_rope.empty() ? empty_section() : Json::parse(family.default_rope);
  const JsonKeys keys(is_given ? top[name.c_str()] : fallback, name + ".", problems);
  if (family.rotated != Family::Rotated::kTwoTables) {
    config.rope = read_table({keys, top, family, config, false}, theta, unknown_keys, name);
    return;
  }
  const std::string window_key(family.window_theta_key);
  const double window_theta = window_key.empty()
                                  ? family.default_window_theta
                                  : top.positive(window_key.c_str(), family.default_window_theta);
  const JsonKeys none(empty_section(), "", problems);
  const JsonKeys full = keys.below("full_attention"), windowed = keys.below("sliding_attention");
  const JsonKeys& of_full = is_old ? keys : full;
  const JsonKeys& of_window = is_old ? none : windowed;
  config.rope = read_table({of_full, top, family, config, true}, theta, unknown_keys, name);
  config.window_rope =
      read_table({of_window, top, family, config, true}, window_theta, unknown_keys, name);
  if (is_old) return;
  for (const std::string& key : keys.others({})) {
    keys.refuse(key.c_str(), "is beside full_attention and sliding_attention, wanted below them");
  }
}

}  // namespace temper

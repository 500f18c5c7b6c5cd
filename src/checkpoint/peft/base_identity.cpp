// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/peft/base_identity.h"

#include <algorithm>
#include <vector>

#include "checkpoint/four_bit/stored_format.h"
#include "checkpoint/json_keys.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/hash.h"

namespace temper {
namespace {

constexpr int64_t kPageBytes = 4096;
constexpr const char* kQuantised = "quantised";

QuantisationOptions read_quantisation(const JsonKeys& keys) {
  const std::string type = keys.text("type");
  const bool is_nf4 = type == name_of(FourBitKind::kNf4);
  if (!is_nf4 && type != name_of(FourBitKind::kFp4)) keys.refuse("type", "is neither nf4 nor fp4");
  return {is_nf4 ? FourBitKind::kNf4 : FourBitKind::kFp4, keys.flag("double", true)};
}

}  // namespace

std::string sampled_sha256(const SafetensorsFolder& weights) {
  Sha256 hash;
  std::vector<std::byte> buffer(kPageBytes);
  for (const auto& [name, place] : weights.tensors()) {
    hash.update(concat(name, ' ', to_string(place.tensor->dtype)));
    for (const int64_t size : place.tensor->shape) hash.update(concat(' ', size));
    const Range bytes = place.tensor->bytes;
    const std::span page(buffer.data(), static_cast<size_t>(std::min(kPageBytes, bytes.size())));
    place.file->read(bytes.begin, page);
    hash.update(page);
  }
  return to_hex(hash.finish());
}

BaseIdentity identify_base(const ModelFolder& base) {
  return {std::filesystem::absolute(base.path()).string(), sampled_sha256(base.weights()), {}};
}

std::string to_json(const BaseIdentity& identity) {
  Json json = {{"path", identity.path}, {"sha256", identity.sha256}};
  if (const auto& quantisation = identity.quantisation) {
    json[kQuantised] = {{"type", name_of(quantisation->kind)}, {"double", quantisation->is_double}};
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

BaseIdentity parse_base_identity(std::string_view text, const std::string& name) {
  const Json json = parse_json(text, {name, FilePurpose::kModel});
  std::vector<std::string> problems;
  const JsonKeys keys(json, "", problems);
  BaseIdentity identity{keys.text("path"), keys.text("sha256"), {}};
  if (keys.has(kQuantised)) {
    identity.quantisation = read_quantisation(JsonKeys(keys[kQuantised], "quantised.", problems));
  }
  if (problems.empty()) return identity;
  throw ModelError(concat(name, ": ", problems.front()), "restore the file, or remove it");
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/peft/base_identity.h"

#include <algorithm>
#include <vector>

#include "checkpoint/json_keys.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/hash.h"

namespace temper {
namespace {

constexpr int64_t kPageBytes = 4096;

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
  return {std::filesystem::absolute(base.path()).string(), sampled_sha256(base.weights())};
}

std::string to_json(const BaseIdentity& identity) {
  const Json json = {{"path", identity.path}, {"sha256", identity.sha256}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

BaseIdentity parse_base_identity(std::string_view text, const std::string& name) {
  const Json json = parse_json(text, {name, FilePurpose::kModel});
  std::vector<std::string> problems;
  const JsonKeys keys(json, "", problems);
  const BaseIdentity identity{keys.text("path"), keys.text("sha256")};
  if (problems.empty()) return identity;
  throw ModelError(concat(name, ": ", problems.front()), "restore the file, or remove it");
}

}  // namespace temper

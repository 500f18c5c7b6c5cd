// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/training_data.h"

namespace temper {
namespace {

constexpr Range kFromOne{1, INT64_MAX};

Json to_json_value(const DataShard& shard) {
  Json json = {{"path", shard.path},
               {"kind", shard.kind},
               {"fingerprint", shard.fingerprint},
               {"num_documents", shard.num_documents},
               {"num_tokens", shard.num_tokens},
               {"num_targets", shard.num_targets}};
  if (!shard.holdout.empty()) json["holdout"] = shard.holdout;
  if (shard.end_of_turn_id) json["end_of_turn_id"] = *shard.end_of_turn_id;
  return json;
}

Json to_json_value(const DataOrigin& source) {
  return {{"path", source.path}, {"license", source.license}, {"origin", source.origin}};
}

DataShard read_shard(const JsonKeys& keys) {
  DataShard shard{.path = keys.text("path"),
                  .holdout = keys.has("holdout") ? keys.text("holdout") : "",
                  .kind = keys.text("kind"),
                  .fingerprint = keys.text("fingerprint"),
                  .num_documents = keys.integer("num_documents", kFromOne),
                  .num_tokens = keys.integer("num_tokens", kFromOne),
                  .num_targets = keys.integer("num_targets", kFromOne)};
  if (keys.has("end_of_turn_id")) {
    shard.end_of_turn_id = keys.integer("end_of_turn_id", Range{0, INT64_MAX});
  }
  return shard;
}

}  // namespace

Json to_json_value(const TrainingData& data) {
  Json json = {{"shards", Json::array()}, {"sources", Json::array()}};
  for (const DataShard& shard : data.shards) json["shards"].push_back(to_json_value(shard));
  for (const DataOrigin& source : data.sources) json["sources"].push_back(to_json_value(source));
  return json;
}

TrainingData read_training_data(const Json& json, std::vector<std::string>& problems) {
  TrainingData data;
  const JsonKeys keys(json, "data.", problems);
  for (const char* list : {"shards", "sources"}) {
    if (!keys.has(list) || !keys[list].is_array()) keys.refuse(list, "is not a list");
  }
  if (!problems.empty()) return data;
  for (const Json& one : keys["shards"]) {
    data.shards.push_back(read_shard(JsonKeys(one, "a shard's ", problems)));
  }
  for (const Json& one : keys["sources"]) {
    const JsonKeys source(one, "a source's ", problems);
    data.sources.push_back({source.text("path"), source.text("license"), source.text("origin")});
  }
  return data;
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "app/data_record.h"

#include <algorithm>

#include "core/error.h"
#include "data/corpus.h"
#include "io/json.h"

namespace temper {
namespace {

DataShard describe_corpus(const Corpus& corpus, const std::string& holdout) {
  return {.path = corpus.name(),
          .holdout = holdout,
          .kind = to_string(corpus.kind()),
          .fingerprint = corpus.fingerprint(),
          .num_documents = corpus.num_documents(),
          .num_tokens = corpus.num_tokens(),
          .num_targets = corpus.num_targets(),
          .end_of_turn_id = corpus.first().header().end_of_turn_id};
}

std::string text_at(const Json& object, const char* key) {
  if (!object.is_object() || !object.contains(key) || !object[key].is_string()) return "";
  return object[key].get<std::string>();
}

// A shard's `origin` is for people, and others than temper's preparation may write anything there.
std::vector<DataOrigin> sources_of(const ShardHeader& header, const std::string& path) {
  std::vector<DataOrigin> found;
  Json origin;
  try {
    origin = parse_json(header.origin, {path, FilePurpose::kData});
  } catch (const Error&) {
    origin = nullptr;
  }
  const Json recipe = origin.is_object() ? origin.value("recipe", Json()) : Json();
  const Json sources = recipe.is_object() ? recipe.value("sources", Json()) : Json();
  for (const Json& source : sources.is_array() ? sources : Json::array()) {
    DataOrigin own{text_at(source, "path"), text_at(source, "license"), text_at(source, "origin")};
    if (!own.path.empty()) found.push_back(std::move(own));
  }
  if (found.empty()) found.push_back({.path = path, .license = "", .origin = ""});
  return found;
}

}  // namespace

TrainingData training_data_of(const RunConfig& config, const Mixture& mixture,
                              const HoldOutRows& holdouts) {
  TrainingData data;
  for (const auto& source : mixture.sources()) {
    data.shards.push_back(describe_corpus(source->corpus(), ""));
    for (const Corpus::Part& part : source->corpus().parts()) {
      for (DataOrigin& origin : sources_of(part.shard->header(), part.shard->path().string())) {
        if (std::ranges::find(data.sources, origin) != data.sources.end()) continue;
        data.sources.push_back(std::move(origin));
      }
    }
  }
  for (size_t k = 0; k < holdouts.size(); ++k) {
    data.shards.push_back(describe_corpus(holdouts[k]->corpus(), config.holdouts[k].name));
  }
  return data;
}

}  // namespace temper

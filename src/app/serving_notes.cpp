// SPDX-License-Identifier: Apache-2.0
#include "app/serving_notes.h"

#include <algorithm>
#include <array>

#include "core/concat.h"

namespace temper {
namespace {

constexpr int64_t kDefaultRank = 16;  // Of vLLM's --max-lora-rank, which is one of these:
constexpr std::array<int64_t, 9> kRanks = {1, 8, 16, 32, 64, 128, 256, 320, 512};
constexpr const char* kMerge = "; temper merge puts it into its base, which they take";

int64_t highest_rank(const LoraOptions& lora) {
  int64_t highest = lora.rank;
  for (const LoraOptions::RankOf& one : lora.rank_pattern) highest = std::max(highest, one.rank);
  return highest;
}

void add_rank(int64_t rank, std::vector<std::string>& notes) {
  const auto* taken = std::ranges::lower_bound(kRanks, rank);
  if (taken == kRanks.end()) {
    notes.push_back(concat("vLLM takes ranks of at most ", kRanks.back(), ", and this adapter has ",
                           rank, kMerge));
  } else if (rank > kDefaultRank) {
    notes.push_back(
        concat("the adapter has rank ", rank, ": start vLLM with --max-lora-rank ", *taken));
  }
}

}  // namespace

std::vector<std::string> serving_notes(const MethodOptions& adapter) {
  if (!adapter.has_adapter()) return {};
  if (!adapter.is_lora()) {
    std::string note = concat("vLLM, SGLang and llama.cpp take no adapter of method ",
                              name_of(adapter.kind), "; transformers serves it with ");
    note += adapter.kind == MethodOptions::Kind::kBottleneck ? "AdapterHub's adapters" : "peft";
    return {note + ", and launch/serve does, too"};
  }
  const LoraOptions& lora = adapter.lora;
  std::vector<std::string> notes;
  add_rank(highest_rank(lora), notes);
  if (lora.uses_dora) notes.push_back(concat("vLLM and llama.cpp take no DoRA", kMerge));
  if (!lora.saved.modules.empty()) {
    notes.push_back(concat("vLLM and llama.cpp take no modules_to_save", kMerge));
  }
  if (!lora.saved.tokens.empty()) {
    notes.push_back(concat("vLLM and llama.cpp take no trained rows of tokens", kMerge));
  }
  return notes;
}

}  // namespace temper

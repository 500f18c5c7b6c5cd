// SPDX-License-Identifier: Apache-2.0
// usage: adapter_probe <model folder> <adapter folder> <token,token,...> <logits file>
//
// Writes the logits after each token, [T, vocab_size] fp32, computed one token at a time as
// generation does.
#include <ATen/ATen.h>

#include <cstdio>
#include <exception>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "checkpoint/load_state.h"
#include "checkpoint/peft/adapter_folder.h"
#include "checkpoint/single_rank.h"
#include "core/targets.h"
#include "train/engine.h"

namespace temper {
namespace {

std::vector<int64_t> parse_tokens(const std::string& text) {
  std::vector<int64_t> tokens;
  std::istringstream words(text);
  for (std::string word; std::getline(words, word, ',');) tokens.push_back(std::stoll(word));
  return tokens;
}

void write_logits(char** arguments) {
  testing::SingleRank ranks;
  const ModelFolder base(arguments[1]);
  const AdapterFolder folder(arguments[2], base);
  Decoder decoder(base.config());
  const Adapter adapter = *make_adapter(folder.options(), base.config());
  const std::vector<UnitLayout> layouts = adapter.layouts();
  UnitStore store(stored_units(decoder.units(), layouts, {.is_trained = false}), ranks, {});
  load_weights(base, store, ranks);
  load_adapter(folder.weights(), static_cast<int>(layouts.size()), store, ranks);
  Engine engine(decoder, store, Activations::kKept, &adapter);

  KeyValueCaches caches(static_cast<size_t>(base.config().num_layers));
  KeyValueCaches* own = &caches;
  std::ofstream file(arguments[4], std::ios::binary);
  int64_t position = 0;
  for (const int64_t token : parse_tokens(arguments[3])) {
    const at::Tensor tokens = at::tensor({token}, at::kLong);
    const PackedBatch batch{
        tokens, at::tensor({position++}, at::kLong), at::full_like(tokens, kNoTarget), {0, 1}};
    const int64_t last = 1;
    const at::Tensor logits = engine.extend(batch, {&own, 1}, {&last, 1});
    file.write(static_cast<const char*>(logits.const_data_ptr()),
               static_cast<std::streamsize>(logits.nbytes()));
  }
}

}  // namespace
}  // namespace temper

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fputs("see the head of adapter_probe.cpp for its usage\n", stderr);
    return 2;
  }
  try {
    temper::write_logits(argv);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}

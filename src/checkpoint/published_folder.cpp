// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/published_folder.h"

#include <algorithm>

#include "checkpoint/chat_template.h"
#include "checkpoint/companion_files.h"

namespace temper {

namespace {

constexpr const char* kConfig = "config.json";
constexpr const char* kGeneration = "generation_config.json";

}  // namespace

// Both files name end tokens: programs look into one or the other.
void add_end_tokens(const std::vector<int64_t>& added, const ModelFolder& source,
                    std::vector<TextFile>& files) {
  std::vector<int64_t> all = source.config().eos_token_ids;
  for (const int64_t token : added) {
    if (std::ranges::find(all, token) == all.end()) all.push_back(token);
  }
  if (std::ranges::find(files, kGeneration, &TextFile::path) == files.end()) {
    files.push_back({kGeneration, "{}"});
  }
  for (TextFile& file : files) {
    if (file.path == kConfig || file.path == kGeneration) {
      file.text = with_end_tokens(file.text, all);
    }
  }
}

PublishedFolder published_model(const ModelFolder& source, const ResultTexts& texts) {
  return {kModelFiles, source.stored_dtype(),
          [&source, texts](DType dtype) {
            std::vector<TextFile> files = source.companions();
            for (TextFile& file : files) {
              if (file.path == kConfig) file.text = with_dtype(file.text, dtype);
            }
            if (!texts.end_tokens.empty()) add_end_tokens(texts.end_tokens, source, files);
            if (!texts.chat_template.empty()) set_chat_template(texts.chat_template, files);
            if (!texts.model_card.empty()) files.push_back({kModelCard, texts.model_card});
            return files;
          },
          &source.weights()};
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/training_data.h"
#include "model/adapter/method.h"

namespace temper {

/// What is known of a model that a run makes.
struct ModelCardFacts {
  std::string base;          ///< The folder of the model that it began with.
  std::string base_license;  ///< As that folder's model card says; empty: it does not.
  const MethodOptions& method;
  bool has_data_template = false;  ///< Its chat template is that of the data.
  const TrainingData& data;
  std::string command = {};        ///< That trains it.
  std::string configuration = {};  ///< All that decides the result, one `key=value` a line.
  /// What of it people compare runs by, with the values.
  std::vector<std::pair<std::string, std::string>> settings = {};
};

/// The text of README.md beside the weights: a header in YAML as Hugging Face's hub reads it, and
/// the data with sizes, licences and origins. It states a licence only if all sources that were
/// trained on state one and the base states no other one; it states what is not known as that.
/// Source: huggingface.co/docs/hub/model-cards, model-cards-metadata.
std::string model_card(const ModelCardFacts& facts);

/// What a hold-out has shown of a result.
struct CardFigure {
  std::string holdout;
  int64_t num_targets = 0;
  std::optional<double> before = {};  ///< The first loss of the run, in nats a target.
  std::optional<double> loss = {};    ///< Nothing: it was not finite.
  std::optional<double> bits_per_byte = {};
};

/// The text of a card of temper with the figures of `step`, also in the header as Hugging Face's
/// hub reads results (`model-index`). Another text stays as it is.
std::string with_figures(const std::string& card, int64_t step,
                         const std::vector<CardFigure>& figures);

/// What is known of a base with adapters of it, merged into one model or one adapter, or of models
/// that were mixed.
struct MergedCardFacts {
  enum class Kind { kMerge, kAdapter, kMixture };  ///< What came of it.

  std::filesystem::path base;                                   ///< Of models the first.
  std::vector<std::pair<std::filesystem::path, double>> parts;  ///< With their weights.
  Kind kind = Kind::kMerge;
};

/// As model_card, of what cards in the folders say: it states a licence only if all parts state
/// one and the base states no other one, and repeats what cards of temper say of data.
std::string merged_model_card(const MergedCardFacts& facts);

/// The text of a folder's model card; empty if it has none. Throws: ModelError.
std::string card_in(const std::filesystem::path& folder);

/// The licence in the header of a folder's README.md: its `license`, or its `license_name` where
/// that is `other`. Empty if there is none, or it cannot be told.
std::string license_in_card(const std::filesystem::path& folder);

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/mixed_model.h"

#include <ATen/ATen.h>

#include <cmath>

#include "checkpoint/companion_files.h"
#include "checkpoint/export_model.h"
#include "checkpoint/model_card.h"
#include "checkpoint/new_folder.h"
#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

void require_weights(const std::vector<WeightedModel>& models) {
  if (models.size() < 2) {
    throw ConfigError(concat("a mixture of ", models.size(), " model has nothing to mix"),
                      "write --model FOLDER --weight NUMBER for each of two or more");
  }
  double sum = 0.0;
  for (const WeightedModel& model : models) sum += model.weight;
  if (std::fabs(sum - 1.0) <= 1e-6) return;
  throw ConfigError(concat("the weights of the models add up to ", sum, ", wanted 1"),
                    "give weights such as 0.3 and 0.7: between a base and what was tuned from it, "
                    "or the same for each of several runs");
}

void require_same_tensors(const ModelFolder& first, const ModelFolder& other) {
  const auto refuse = [&](const std::string& what) {
    throw ModelError(concat("the models in ", first.path().string(), " and ", other.path().string(),
                            " cannot be mixed: ", what),
                     "mix models that were tuned from one base");
  };
  if (other.quantisation()) refuse("the latter has weights in four bits");
  if (first.units().size() != other.units().size()) {
    refuse(concat("they have ", first.units().size() - 2, " and ", other.units().size() - 2,
                  " blocks"));
  }
  for (size_t unit = 0; unit < first.units().size(); ++unit) {
    for (const TensorSlot& slot : first.units()[unit].slots()) {
      const TensorSlot* found = other.units()[unit].find(slot.name);
      if (found == nullptr) refuse(concat("the latter has no ", slot.name));
      if (found->shape != slot.shape) refuse(concat("they have other shapes of ", slot.name));
    }
    if (first.units()[unit].slots().size() != other.units()[unit].slots().size()) {
      refuse("the latter has more tensors");
    }
  }
}

at::Tensor mixed(const std::vector<ModelFolder>& models, const std::vector<WeightedModel>& weighted,
                 const std::string& name) {
  at::Tensor sum;
  for (size_t i = 0; i < models.size(); ++i) {
    const at::Tensor part =
        read_tensor(*models[i].weights().find(name)).to(at::kDouble).mul_(weighted[i].weight);
    sum = sum.defined() ? sum.add_(part) : part;
  }
  return sum.to(at::kFloat);
}

}  // namespace

void mix_models(const std::vector<WeightedModel>& models, const fs::path& destination) {
  require_weights(models);
  require_new_folder(destination);
  std::vector<ModelFolder> folders;
  for (const WeightedModel& model : models) folders.emplace_back(model.path);
  const ModelFolder& first = folders.front();
  for (const ModelFolder& other : folders) require_same_tensors(first, other);
  MergedCardFacts card{.base = first.path(), .parts = {}, .kind = MergedCardFacts::Kind::kMixture};
  for (const WeightedModel& model : models) card.parts.emplace_back(model.path, model.weight);
  ModelContent content{.texts = first.companions(), .max_file_bytes = kMaxExportFileBytes};
  content.texts.push_back({kModelCard, merged_model_card(card)});
  content.groups = groups_of(first, [&](const TensorSlot& slot) -> TensorGroup {
    const TensorSpec spec{slot.name, first.weights().find(slot.name)->tensor->dtype, slot.shape};
    return {{spec}, [&, spec](const File& file, std::span<const int64_t> offsets) {
              write_rounded(mixed(folders, models, spec.name), spec, file, offsets[0]);
            }};
  });
  add_others(first, content.groups);
  write_new_model_folder(destination, content, [](const fs::path& copy) { ModelFolder{copy}; });
}

}  // namespace temper

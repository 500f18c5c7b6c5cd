// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/peft/merge.h"

#include <ATen/ATen.h>

#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/chat_template.h"
#include "checkpoint/companion_files.h"
#include "checkpoint/export_model.h"
#include "checkpoint/four_bit/stored_format.h"
#include "checkpoint/four_bit/stored_matrix.h"
#include "checkpoint/model_card.h"
#include "checkpoint/new_folder.h"
#include "checkpoint/peft/adapter_config.h"
#include "checkpoint/peft/base_identity.h"
#include "checkpoint/peft/tensor_changes.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/hash.h"
#include "io/dtype.h"
#include "io/file.h"
#include "model/tensor_names.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

using Place = SafetensorsFolder::Place;
using Quantisation = std::optional<QuantisationOptions>;

constexpr const char* kRecord = "merged_adapter.json";

void require_lora_of(const AdapterFolder& adapter, const BaseIdentity& base) {
  if (adapter.options().kind != MethodOptions::Kind::kLora) {
    throw ConfigError(
        concat("the adapter in ", adapter.path().string(), " is one of method ",
               name_of(adapter.options().kind), ", which no weights of the base can stand for"),
        "merge adapters of LoRA only");
  }
  require_same_base(adapter.path(), base);
}

// The one that all adapters record, if they do.
Quantisation recorded_by(const std::vector<WeightedAdapter>& adapters) {
  const auto record_of = [](const WeightedAdapter& weighted) {
    const auto base = read_base_identity(weighted.adapter->path());
    return base ? base->quantisation : Quantisation();
  };
  const Quantisation first = record_of(adapters[0]);
  for (const WeightedAdapter& weighted : adapters) {
    if (record_of(weighted) != first) return {};
  }
  return first;
}

// How the base is to be dequantised; nothing if it is not.
Quantisation quantisation_for(const ModelFolder& base, const MergeRequest& request) {
  if (base.quantisation()) {
    if (request.base != MergeBase::kDense) return base.quantisation();
    throw ConfigError(concat("--base dense: the weights in ", base.path().string(), " are ",
                             describe(*base.quantisation()), " and no others"),
                      "leave --base out, or give the model that they were quantised from");
  }
  if (request.base != MergeBase::kDequantised) return {};
  if (const Quantisation recorded = recorded_by(request.adapters)) return recorded;
  throw ConfigError(
      concat("--base dequantised: ", request.adapters[0].adapter->path().string(),
             request.adapters.size() == 1 ? " does" : " and the other adapters do",
             " not record one quantisation of the base that they were trained on"),
      "leave --base out: adapters of method lora were trained on the dense base; for one of peft "
      "give a base that bitsandbytes quantised");
}

std::string record_of(BaseIdentity base, const Quantisation& quantisation) {
  base.quantisation = quantisation;
  return to_json(base);
}

// The chat template that adapters were trained with in place of their base's own; empty: that one.
std::string template_of(const std::vector<WeightedAdapter>& adapters, const ModelFolder& base) {
  std::string found;
  const AdapterFolder* owner = nullptr;
  for (const WeightedAdapter& weighted : adapters) {
    const std::optional<std::string> own = own_chat_template(weighted.adapter->path());
    if (!own) continue;
    if (owner != nullptr && *own != found) {
      throw ConfigError(
          concat("the adapters in ", owner->path().string(), " and ",
                 weighted.adapter->path().string(), " have two different chat_template.jinja"),
          "merge adapters of one chat template, or remove the file where it is not to count");
    }
    found = *own;
    owner = weighted.adapter;
  }
  const std::vector<std::string> of_base = chat_template_sha256s(base.path());
  const bool is_of_base = !of_base.empty() && of_base.front() == to_hex(sha256(found));
  return is_of_base ? "" : found;
}

TextFile card_of(const MergeRequest& request, const ModelFolder& base, bool is_adapter) {
  using Kind = MergedCardFacts::Kind;
  MergedCardFacts facts{
      .base = base.path(), .parts = {}, .kind = is_adapter ? Kind::kAdapter : Kind::kMerge};
  for (const WeightedAdapter& weighted : request.adapters) {
    facts.parts.emplace_back(weighted.adapter->path(), weighted.weight);
  }
  return {kModelCard, merged_model_card(facts)};
}

std::vector<TextFile> texts_of(const ModelFolder& base, const std::string& chat_template,
                               bool unties_head) {
  std::vector<TextFile> texts = base.companions();
  if (!chat_template.empty()) set_chat_template(chat_template, texts);
  for (TextFile& text : texts) {
    if (text.path != "config.json") continue;
    if (base.quantisation()) text.text = without_member(text.text, "quantization_config");
    if (unties_head) text.text = with_flag(text.text, "tie_word_embeddings", false);
  }
  return texts;
}

// A base, and how its weights become those of the merged model.
class Merge {
 public:
  Merge(const ModelFolder& base, TensorChanges changes, Quantisation quantisation)
      : base_(base), changes_(std::move(changes)), quantisation_(quantisation) {}

  std::vector<TensorGroup> groups(bool unties_head) const {
    std::vector<TensorGroup> groups =
        groups_of(base_, [this](const TensorSlot& slot) { return group_of(slot, slot.name); });
    // A head that was tied begins as a copy of the embedding, which is the first tensor.
    const TensorSlot& embedding = base_.units().front().slots().front();
    if (unties_head) groups.push_back(group_of(embedding, head_weight(base_.config())));
    add_others(base_, groups);
    return groups;
  }

 private:
  // The tensor `name`, from that of the slot.
  TensorGroup group_of(const TensorSlot& slot, const std::string& name) const {
    const Place& place = *base_.weights().find(slot.name);
    const bool is_new = quantisation_ && is_four_bit_matrix(slot);
    const bool is_changed = changes_.contains(name) || name != slot.name;
    if (!is_new && !is_changed) return copy_of(place);
    const DType dtype = base_.is_four_bit(slot) ? base_.stored_dtype() : place.tensor->dtype;
    const TensorSpec spec{name, dtype, slot.shape};
    return {{spec}, [this, &slot, spec](const File& file, std::span<const int64_t> offsets) {
              write_rounded(merged(slot, spec.name), spec, file, offsets[0]);
            }};
  }

  // Only matrices of blocks are quantised.
  at::Tensor merged(const TensorSlot& slot, const std::string& name) const {
    const bool is_quantised = quantisation_ && is_four_bit_matrix(slot);
    at::Tensor before = is_quantised ? dequantised_matrix(base_, slot, *quantisation_)
                                     : read_tensor(*base_.weights().find(slot.name));
    const auto change = changes_.find(name);
    return change == changes_.end() ? before : change->second(std::move(before));
  }

  const ModelFolder& base_;
  TensorChanges changes_;
  Quantisation quantisation_;
};

TensorGroup group_of(const CombinedAdapter& adapter, const LoraModule& module, const char* part,
                     std::vector<int64_t> shape) {
  const TensorSpec spec{tensor_name(module, part), DType::kF32, std::move(shape)};
  return {{spec}, [&adapter, &module, part](const File& file, std::span<const int64_t> offsets) {
            const at::Tensor values = adapter.tensor(module, part);
            const std::span numbers(values.const_data_ptr<float>(),
                                    static_cast<size_t>(values.numel()));
            file.write(offsets[0], std::as_bytes(numbers));
          }};
}

}  // namespace

Quantisation merge_adapters(const ModelFolder& base, const MergeRequest& request,
                            const fs::path& destination) {
  const BaseIdentity identity = identify_base(base);
  for (const auto& weighted : request.adapters) require_lora_of(*weighted.adapter, identity);
  require_new_folder(destination);
  const Quantisation quantisation = quantisation_for(base, request);
  std::optional<CombinedAdapter> combined;
  if (request.combination) combined.emplace(request.adapters, *request.combination, base);
  const AdapterFolder& first = *request.adapters[0].adapter;
  const Merge merge(base,
                    combined ? tensor_changes(*combined) : tensor_changes(first, base.config()),
                    quantisation);
  const bool is_untied = !combined && unties_head(first, base.config());
  const std::string chat_template = template_of(request.adapters, base);
  ModelContent content{.texts = texts_of(base, chat_template, is_untied),
                       .groups = merge.groups(is_untied),
                       .max_file_bytes = kMaxExportFileBytes};
  content.texts.push_back({kRecord, record_of(identity, quantisation)});
  content.texts.push_back(card_of(request, base, /*is_adapter=*/false));
  write_new_model_folder(destination, content, [](const fs::path& copy) { ModelFolder{copy}; });
  return quantisation;
}

void combine_adapters(const ModelFolder& base, const MergeRequest& request,
                      const fs::path& destination) {
  const BaseIdentity identity = identify_base(base);
  for (const auto& weighted : request.adapters) require_lora_of(*weighted.adapter, identity);
  require_new_folder(destination);
  const CombinedAdapter combined(request.adapters, request.combination.value(), base);
  MethodOptions options;
  options.kind = MethodOptions::Kind::kLora;
  options.lora = combined.options();
  ModelContent content{.stem = kAdapterFiles.stem,
                       .max_file_bytes = std::numeric_limits<int64_t>::max()};
  content.texts = adapter_texts(options, base, record_of(identity, recorded_by(request.adapters)));
  const std::string chat_template = template_of(request.adapters, base);
  if (!chat_template.empty()) {
    for (TextFile& file : template_texts(chat_template, base)) content.texts.push_back(file);
  }
  content.texts.push_back(card_of(request, base, /*is_adapter=*/true));
  for (const LoraModule& module : combined.modules()) {
    const int64_t out = module.module.out, in = module.module.in;
    content.groups.push_back(group_of(combined, module, kLoraDown, {module.rank, in}));
    content.groups.push_back(group_of(combined, module, kLoraUp, {out, module.rank}));
  }
  write_new_model_folder(destination, content,
                         [&](const fs::path& copy) { AdapterFolder(copy, base); });
}

void restore_base(const fs::path& merged, const fs::path& destination) {
  const fs::path record = merged / kRecord;
  if (!fs::exists(record)) {
    throw ModelError(concat(merged.string(), " does not record the base it was merged from"),
                     "give a folder that `temper merge` wrote");
  }
  const BaseIdentity wanted =
      parse_base_identity(read_file(record, FilePurpose::kModel), record.string());
  const ModelFolder base(wanted.path, WeightForms::kAny);
  if (!(identify_base(base) == wanted)) {
    throw ModelError(concat("the model in ", wanted.path, " is not the base any more that ",
                            merged.string(), " was merged from"),
                     "restore that base");
  }
  export_model(base, destination);
}

void export_adapter(const fs::path& adapter, const fs::path& destination,
                    const std::vector<TextFile>& texts) {
  const NewFolder folder(destination);
  for (const char* name :
       {"adapter_config.json", "base.json", "adapter_model.safetensors", "adapter.safetensors"}) {
    if (!fs::exists(adapter / name) && std::string_view(name).ends_with(".safetensors")) continue;
    folder.copy(adapter / name);
  }
  std::vector<TextFile> files = read_tokenizer_files(adapter);
  add_model_card(adapter, files);
  if (const auto text = own_chat_template(adapter)) files.push_back({kChatTemplate, *text});
  put_texts(texts, files);
  for (const TextFile& file : files) folder.write(file);
  folder.publish();
}

}  // namespace temper

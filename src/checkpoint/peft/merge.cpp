// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/peft/merge.h"

#include <ATen/ATen.h>

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/companion_files.h"
#include "checkpoint/export_model.h"
#include "checkpoint/new_folder.h"
#include "checkpoint/peft/base_identity.h"
#include "core/concat.h"
#include "core/error.h"
#include "io/dtype.h"
#include "io/file.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

using Place = SafetensorsFolder::Place;

constexpr const char* kRecord = "merged_adapter.json";

at::Tensor read_whole(const Place& place) {
  at::Tensor values = at::empty(place.tensor->shape, at::kFloat);
  const auto count = static_cast<size_t>(values.numel());
  place.file->read_floats(*place.tensor, {0, values.numel()},
                          {values.mutable_data_ptr<float>(), count});
  return values;
}

// What an adapter adds to each matrix of its base.
class Deltas {
 public:
  Deltas(const AdapterFolder& adapter, const ModelConfig& base) : adapter_(adapter) {
    for (const LoraModule& module : lora_modules(adapter.options().lora, base)) {
      scales_[module.path + ".weight"] = module.scale;
    }
  }

  bool has(const std::string& name) const { return scales_.contains(name); }

  // Of a matrix that is adapted. Shapes: as the matrix, fp32.
  at::Tensor of(const std::string& name) const {
    const std::string module = "base_model.model." + name.substr(0, name.rfind('.'));
    const Place* down = adapter_.weights().find(module + ".lora_A.weight");
    const Place* up = adapter_.weights().find(module + ".lora_B.weight");
    return at::mm(read_whole(*up), read_whole(*down)).mul_(scales_.at(name));
  }

 private:
  const AdapterFolder& adapter_;
  std::map<std::string, double> scales_;  // By the name of the matrix.
};

void write_sum(const Place& from, const at::Tensor& delta, const File& to, int64_t offset) {
  at::Tensor sum = read_whole(from).add_(delta);
  // Rounded first: a sum that the dtype cannot hold is as bad as one that is not finite.
  const std::span<const float> numbers(sum.const_data_ptr<float>(),
                                       static_cast<size_t>(sum.numel()));
  std::vector<std::byte> bytes(static_cast<size_t>(from.tensor->bytes.size()));
  from_floats(from.tensor->dtype, numbers, bytes);
  to_floats(from.tensor->dtype, bytes,
            {sum.mutable_data_ptr<float>(), static_cast<size_t>(sum.numel())});
  if (!at::isfinite(sum).all().item<bool>()) {
    throw ModelError(concat("merging makes ", from.tensor->name, " of ", from.file->path().string(),
                            " not finite in ", to_string(from.tensor->dtype)),
                     "use an adapter of a run that converged, or a base in a wider dtype");
  }
  to.write(offset, bytes);
}

}  // namespace

void merge_adapter(const ModelFolder& base, const AdapterFolder& adapter,
                   const fs::path& destination) {
  if (adapter.options().kind != MethodOptions::Kind::kLora) {
    throw ConfigError(
        concat("the adapter in ", adapter.path().string(), " is one of method ",
               name_of(adapter.options().kind), ", which no weights of the base can stand for"),
        "merge adapters of LoRA only");
  }
  require_same_base(adapter.path(), base);
  require_new_folder(destination);
  const Deltas deltas(adapter, base.config());
  ModelContent content{read_companion_files(base.path()), {}, kMaxExportFileBytes};
  content.texts.push_back({kRecord, to_json(identify_base(base))});
  content.groups = groups_of(base, [&](const Place& place) {
    TensorGroup group = copy_of(place);
    if (deltas.has(place.tensor->name)) {
      group.write = [&deltas, place](const File& file, std::span<const int64_t> offsets) {
        write_sum(place, deltas.of(place.tensor->name), file, offsets[0]);
      };
    }
    return group;
  });
  write_new_model_folder(destination, content, [](const fs::path& copy) { ModelFolder{copy}; });
}

void restore_base(const fs::path& merged, const fs::path& destination) {
  const fs::path record = merged / kRecord;
  if (!fs::exists(record)) {
    throw ModelError(concat(merged.string(), " does not record the base it was merged from"),
                     "give a folder that `temper merge` wrote");
  }
  const BaseIdentity wanted =
      parse_base_identity(read_file(record, FilePurpose::kModel), record.string());
  const ModelFolder base(wanted.path);
  if (!(identify_base(base) == wanted)) {
    throw ModelError(concat("the model in ", wanted.path, " is not the base any more that ",
                            merged.string(), " was merged from"),
                     "restore that base");
  }
  export_model(base, destination);
}

void export_adapter(const fs::path& adapter, const fs::path& destination) {
  const NewFolder folder(destination);
  for (const char* name :
       {"adapter_config.json", "base.json", "adapter_model.safetensors", "adapter.safetensors"}) {
    if (!fs::exists(adapter / name) && std::string_view(name).ends_with(".safetensors")) continue;
    folder.write({name, read_file(adapter / name, FilePurpose::kCheckpoint)});
  }
  folder.publish();
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/unit_files.h"

#include <algorithm>
#include <iterator>
#include <map>

#include "core/concat.h"
#include "io/safetensors_folder.h"
#include "io/safetensors_layout.h"

namespace temper {
namespace {

UnitFile plan_file(const UnitFileSet& set, const UnitLayout& unit, DType dtype,
                   const SafetensorsFolder* base) {
  const bool is_passed = unit.use() == UnitLayout::Use::kPassedOn;
  if (is_passed) dtype = DType::kU8;
  std::vector<TensorSpec> specs;
  for (const TensorSlot& slot : unit.slots()) {
    specs.push_back({slot.name, dtype, slot.shape});
    if (!is_passed || base == nullptr) continue;
    const SafetensorsTensor& tensor = *base->find(slot.name)->tensor;
    specs.back() = {slot.name, tensor.dtype, tensor.shape};
  }
  return {set.kind,           0, {}, SafetensorsLayout(std::move(specs)).header(), dtype,
          unit.num_elements()};
}

std::vector<UnitFileSet> all_sets(const UnitFileSet& published) {
  std::vector<UnitFileSet> sets = {published};
  sets.insert(sets.end(), std::begin(kOptimizerFileSets), std::end(kOptimizerFileSets));
  return sets;
}

DType dtype_of(StateKind kind, const StoredDTypes& dtypes) {
  if (kind == StateKind::kModel) return dtypes.model;
  const bool is_moment = kind == StateKind::kFirstMoment || kind == StateKind::kSecondMoment;
  return is_moment ? dtypes.moments : DType::kF32;
}

bool has(const UnitFileSet& set, const UnitLayout& unit) {
  switch (set.kind) {
    case StateKind::kModel: return unit.is_published();
    case StateKind::kBaseChange: return unit.changes_base();
    default: return unit.is_trained();
  }
}

std::vector<int> units_in(const UnitFileSet& set, const std::vector<UnitLayout>& units) {
  std::vector<int> chosen;
  for (int unit = 0; unit < std::ssize(units); ++unit) {
    const UnitLayout& layout = units[static_cast<size_t>(unit)];
    if (has(set, layout) && layout.num_elements() > 0) chosen.push_back(unit);
  }
  return chosen;
}

TextFile make_index(const UnitFileSet& set, const std::vector<UnitLayout>& units,
                    const std::vector<UnitFile>& files) {
  std::map<std::string, std::string> file_of_tensor;
  int64_t total_bytes = 0;
  for (const UnitFile& file : files) {
    if (file.kind != set.kind) continue;
    total_bytes += file.bytes_of({0, file.num_elements}).size();
    const std::string name = file.path.substr(file.path.rfind('/') + 1);
    for (const TensorSlot& slot : units[static_cast<size_t>(file.unit)].slots()) {
      file_of_tensor[slot.name] = name;
    }
  }
  return {concat(set.folder, '/', set.stem, ".safetensors.index.json"),
          safetensors_index(file_of_tensor, total_bytes)};
}

}  // namespace

Range UnitFile::bytes_of(Range elements) const {
  const int64_t element_bytes = num_bits(dtype) / 8;
  const auto data_begin = static_cast<int64_t>(header.size());
  return {data_begin + elements.begin * element_bytes, data_begin + elements.end * element_bytes};
}

DType stored_dtype_of(MomentDtype moments) {
  return moments == MomentDtype::kBfloat16 ? DType::kBF16 : DType::kF32;
}

std::vector<UnitFile> plan_unit_files(const std::vector<UnitLayout>& units,
                                      const UnitFileSet& published, const StoredDTypes& dtypes,
                                      const SafetensorsFolder* base) {
  std::vector<UnitFile> files;
  for (const UnitFileSet& set : all_sets(published)) {
    if (set.kind == StateKind::kMean && !dtypes.has_means) continue;
    const std::vector<int> chosen = units_in(set, units);
    for (size_t i = 0; i < chosen.size(); ++i) {
      UnitFile file =
          plan_file(set, units[static_cast<size_t>(chosen[i])], dtype_of(set.kind, dtypes), base);
      file.unit = chosen[i];
      file.path =
          concat(set.folder, '/',
                 safetensors_file_name(set.stem, static_cast<int64_t>(i), std::ssize(chosen)));
      files.push_back(std::move(file));
    }
  }
  return files;
}

std::vector<TextFile> make_indexes(const std::vector<UnitLayout>& units,
                                   const UnitFileSet& published,
                                   const std::vector<UnitFile>& files) {
  std::vector<TextFile> indexes;
  for (const UnitFileSet& set : all_sets(published)) {
    if (std::ranges::count(files, set.kind, &UnitFile::kind) < 2) continue;
    indexes.push_back(make_index(set, units, files));
  }
  return indexes;
}

size_t first_file_of(int rank, int world_size, size_t num_files) {
  return num_files * static_cast<size_t>(rank) / static_cast<size_t>(world_size);
}

int64_t checkpoint_bytes(const std::vector<UnitLayout>& units, const StoredDTypes& dtypes) {
  int64_t sum = 0;
  for (const UnitFile& file : plan_unit_files(units, kModelFiles, dtypes)) sum += file.bytes();
  return sum;
}

}  // namespace temper

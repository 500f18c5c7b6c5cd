// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/range.h"
#include "io/dtype.h"
#include "io/file.h"
#include "io/safetensors_folder.h"
#include "model/unit_layout.h"
#include "optim/adamw.h"

namespace temper {

/// What a checkpoint stores of every element.
enum class StateKind { kModel, kMaster, kFirstMoment, kSecondMoment, kMean, kBaseChange };

/// A set of safetensors files, one per unit, with an index: `<folder>/<stem>-00001-of-00032…`.
struct UnitFileSet {
  StateKind kind;
  const char* folder;  ///< Below the checkpoint's.
  const char* stem;
};

/// What other programs open: a model, or an adapter of peft or of AdapterHub.
inline constexpr UnitFileSet kModelFiles{StateKind::kModel, "model", "model"};
inline constexpr UnitFileSet kAdapterFiles{StateKind::kModel, "adapter", "adapter_model"};
inline constexpr UnitFileSet kAdapterHubFiles{StateKind::kModel, "adapter", "adapter"};

/// What only who goes on training opens. The means are there where a run keeps them; the last one
/// has units of some adapters only.
inline constexpr UnitFileSet kMasterFiles{StateKind::kMaster, "optimizer", "master"};
inline constexpr UnitFileSet kMeanFiles{StateKind::kMean, "optimizer", "mean"};
inline constexpr UnitFileSet kBaseChangeFiles{StateKind::kBaseChange, "optimizer", "base_change"};
inline constexpr UnitFileSet kOptimizerFileSets[] = {
    kMasterFiles,
    {StateKind::kFirstMoment, "optimizer", "first_moment"},
    {StateKind::kSecondMoment, "optimizer", "second_moment"},
    kMeanFiles,
    kBaseChangeFiles,
};

/// A safetensors file that holds one unit's elements in the order of its flat buffer, from a page's
/// border on: a slice of the unit is a contiguous range of bytes.
struct UnitFile {
  StateKind kind;
  int unit = 0;
  std::string path;    ///< Below the checkpoint's folder.
  std::string header;  ///< The file's first bytes, up to the data.
  DType dtype;
  int64_t num_elements = 0;

  /// Where some elements of the unit lie, from the beginning of the file.
  Range bytes_of(Range elements) const;
  int64_t bytes() const { return bytes_of({0, num_elements}).end; }
};

/// What the numbers of a checkpoint are stored in; master weights and their means are always F32.
struct StoredDTypes {
  DType model;
  DType moments = DType::kF32;
  bool has_means = false;
};

/// What moments are stored in: BF16, or F32, also for those in 8 bits, which are decoded.
DType stored_dtype_of(MomentDtype moments);

/// All unit files of a checkpoint, set by set: first the `published` one, then the optimizer's.
/// What is passed on has the dtypes and shapes of `base`; without that, those of bytes.
std::vector<UnitFile> plan_unit_files(const std::vector<UnitLayout>& units,
                                      const UnitFileSet& published, const StoredDTypes& dtypes,
                                      const SafetensorsFolder* base = nullptr);

/// The index of each set of several files: which file has which tensor.
std::vector<TextFile> make_indexes(const std::vector<UnitLayout>& units,
                                   const UnitFileSet& published,
                                   const std::vector<UnitFile>& files);

/// The file that a rank begins to write with. Ranks begin all over the files, since many that write
/// one file keep a single storage target busy and leave the others idle.
size_t first_file_of(int rank, int world_size, size_t num_files);

/// Bytes of a checkpoint's unit files, nearly all of the whole.
int64_t checkpoint_bytes(const std::vector<UnitLayout>& units, const StoredDTypes& dtypes);

}  // namespace temper

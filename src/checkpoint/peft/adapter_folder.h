// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "checkpoint/model_folder.h"
#include "checkpoint/peft/base_identity.h"
#include "checkpoint/published_folder.h"
#include "checkpoint/unit_files.h"
#include "io/safetensors_folder.h"
#include "model/adapter/method.h"

namespace temper {

/// A folder with an adapter, as peft, AdapterHub and a checkpoint's `adapter/` have it: its
/// configuration is understood, and its tensors are exactly those that the configuration asks for
/// on a base of this shape.
///
/// Throws: ModelError that lists every missing tensor, surplus tensor and wrong shape.
class AdapterFolder {
 public:
  AdapterFolder(std::filesystem::path folder, const ModelFolder& base);

  const std::filesystem::path& path() const { return path_; }
  const MethodOptions& options() const { return options_; }
  const SafetensorsFolder& weights() const { return weights_; }

  /// SHA-256 over the configuration and the first bytes of each tensor, in hex.
  std::string fingerprint() const;

 private:
  std::filesystem::path path_;
  std::string config_text_;
  MethodOptions options_;
  SafetensorsFolder weights_;
};

/// The files of weights that a method's adapter has.
const UnitFileSet& adapter_files_of(const MethodOptions& options);

/// Opens them in `folder`. Throws: ModelError, and says so if they are there in another format.
SafetensorsFolder open_adapter_weights(const std::filesystem::path& folder,
                                       const MethodOptions& options);

/// Throws: ModelError if an adapter in `folder` says that it was trained on another base. The files
/// of peft and AdapterHub themselves do not say.
void require_same_base(const std::filesystem::path& folder, const ModelFolder& base);

/// The `adapter/` of a checkpoint of an adapter on `base`. Both must outlive the result.
PublishedFolder published_adapter(const MethodOptions& options, const ModelFolder& base);

}  // namespace temper

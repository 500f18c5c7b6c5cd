// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

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

/// The base that an adapter in `folder` says that it was trained on: the files of peft and
/// AdapterHub do not. Throws: ModelError if its record is damaged.
std::optional<BaseIdentity> read_base_identity(const std::filesystem::path& folder);

/// The files of weights that a method's adapter has.
const UnitFileSet& adapter_files_of(const MethodOptions& options);

/// What a checkpoint's sets of files have of an adapter: one unit a file. Of an adapter that
/// changes its base, what is published is an adapter on the base as it was, of twice the rank: A on
/// top of the A of the change, B beside its B. What is trained, and the change, only who goes on
/// training opens.
/// Source: peft 0.21, path_initial_model_for_weight_conversion and subtract_mutated_init.
std::vector<UnitLayout> units_in_files(const Adapter& adapter);

/// Opens them in `folder`. Throws: ModelError, and says so if they are there in another format.
SafetensorsFolder open_adapter_weights(const std::filesystem::path& folder,
                                       const MethodOptions& options);

/// Throws: ModelError if an adapter in `folder` says that it was trained on another base.
void require_same_base(const std::filesystem::path& folder, const BaseIdentity& base);

/// The same, where the base is not identified yet; one that is not asked for is not read.
void require_same_base(const std::filesystem::path& folder, const ModelFolder& base);

/// The small files of an adapter on `base`; `base_record` is the text of base.json.
std::vector<TextFile> adapter_texts(const MethodOptions& options, const ModelFolder& base,
                                    const std::string& base_record);

/// What a chat template other than its base's adds to the small files of an adapter: it, and the
/// base's tokenizer, so that transformers opens both together. Throws: ModelError.
std::vector<TextFile> template_texts(const std::string& chat_template, const ModelFolder& base);

/// The `adapter/` of a checkpoint of an adapter on `base`, whose matrices are kept in four bits as
/// `quantisation` says, or not. Options and base must outlive the result; end tokens are the
/// base's.
PublishedFolder published_adapter(const MethodOptions& options, const ModelFolder& base,
                                  const std::optional<QuantisationOptions>& quantisation,
                                  const ResultTexts& texts = {});

}  // namespace temper

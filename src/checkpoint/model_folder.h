// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "io/dtype.h"
#include "io/file.h"
#include "io/safetensors_folder.h"
#include "model/model_config.h"
#include "model/unit_layout.h"
#include "zero/quantisation_options.h"

namespace temper {

/// SHA-256 of the bytes of a folder's tokenizer.json, in hex. Throws: ModelError.
std::string tokenizer_sha256_of(const std::filesystem::path& folder);

/// Which weights the user of a model's folder can do something with.
enum class WeightForms {
  kDense,  ///< Floating-point numbers only.
  kAny,    ///< Also matrices of blocks in four bits, as bitsandbytes stores them.
};

/// A Hugging Face folder of a model that can be trained: its configuration is understood, and its
/// weights are exactly those that the configuration asks for.
///
/// Throws: ModelError.
class ModelFolder {
 public:
  /// Reads the configuration and the headers of the weights, but no weight: only where the
  /// configuration says that the head is tied and both are stored, they are compared, unless
  /// `has_own_head` knows from another rank what comes out. Every missing tensor, surplus tensor
  /// and wrong shape is in the error. Of weights in four bits all that goes with the codes and
  /// scales is checked, too.
  explicit ModelFolder(std::filesystem::path folder, WeightForms accepted = WeightForms::kDense,
                       std::optional<bool> has_own_head = std::nullopt);

  const std::filesystem::path& path() const { return path_; }

  /// The tokens that end a text are those of generation_config.json, if it names any. Where it says
  /// that the head is tied, but the weights have a head of other values than the embedding, it is
  /// not: so does transformers.
  const ModelConfig& config() const { return config_; }

  /// Whether the weights have a head of their own though the configuration says that it is tied.
  bool has_own_head() const { return has_own_head_; }
  const std::vector<UnitLayout>& units() const { return units_; }
  const SafetensorsFolder& weights() const { return weights_; }

  /// The tensors of what else the model has, such as a part that sees, or layers that predict
  /// further tokens, and what corrects routers: no unit has them. Widest dtype first, then by name.
  const std::vector<SafetensorsFolder::Place>& others() const { return others_; }

  /// These as a unit of bytes, for checkpoints; nothing if there are none.
  std::optional<UnitLayout> passed_unit() const;

  /// The dtype of most weights: F32, BF16 or F16. Of four bits: what they were quantised from.
  DType stored_dtype() const { return stored_dtype_; }

  /// How the matrices of the blocks are stored in four bits; nothing if they are not.
  const std::optional<QuantisationOptions>& quantisation() const { return quantisation_; }

  /// Whether this weight is stored in four bits.
  bool is_four_bit(const TensorSlot& slot) const;

  /// The small files that go with the weights, as companion_files.h reads them; config.json says of
  /// the head and of dense weights what is true. Throws: ModelError if one cannot be read.
  std::vector<TextFile> companions() const;

  /// SHA-256 of the bytes of tokenizer.json, in hex.
  std::string tokenizer_sha256() const { return tokenizer_sha256_of(path_); }

  /// SHA-256 over the configuration and all names, shapes, dtypes and places of tensors, in hex;
  /// for messages, since it costs no reading of weights.
  std::string fingerprint() const;

 private:
  void look_at_names();
  void look_at_others();
  bool is_other(const std::string& name) const;
  void read_corrections();
  void unpack_experts();
  bool is_ignored(const std::string& name) const;
  void look_at_head(std::optional<bool> has_own_head);
  void look_at_quantisation();

  std::filesystem::path path_;
  std::string config_text_;
  ModelConfig config_;
  SafetensorsFolder weights_;
  bool has_own_head_ = false;
  bool has_stale_quantisation_ = false;  // In the configuration, of weights that are dense.
  std::optional<QuantisationOptions> quantisation_;
  std::vector<UnitLayout> units_;
  std::vector<SafetensorsFolder::Place> others_;
  DType stored_dtype_ = DType::kF32;
};

/// Checks that a folder has every tensor of the units in its shape and a dtype that can be read,
/// and no other one. `name` is the folder's. Throws: ModelError that lists all differences.
void require_tensors(const SafetensorsFolder& weights, const std::vector<UnitLayout>& units,
                     const std::string& name);

/// A whole tensor of such a folder, or of an adapter's, as fp32 in its shape.
/// Throws: the Error of the file.
at::Tensor read_tensor(const SafetensorsFolder::Place& place);

}  // namespace temper

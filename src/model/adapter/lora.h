// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/adapter/adapter.h"
#include "model/adapter/saved_modules.h"
#include "model/linear_modules.h"
#include "model/model_config.h"

namespace temper {

struct LoraOptions {
  enum class Init {
    kKaiming,    ///< A uniform in ±1/sqrt(in), B zero: peft's default.
    kGaussian,   ///< A normal with standard deviation 1/rank, B zero.
    kPrincipal,  ///< The principal parts of the matrix, which are taken off it: PiSSA.
  };
  /// Another rank or alpha for the modules that `module` means: a regular expression for the end of
  /// a path, as in peft. The first one that fits counts.
  struct RankOf {
    std::string module;
    int64_t rank = 0;
    friend bool operator==(const RankOf&, const RankOf&) = default;
  };
  struct AlphaOf {
    std::string module;
    double alpha = 0.0;
    friend bool operator==(const AlphaOf&, const AlphaOf&) = default;
  };

  int64_t rank = 16;
  double alpha = 32.0;
  double dropout = 0.0;      ///< Of what A projects, while it trains.
  double plus_ratio = 1.0;   ///< LoRA+: B learns so many times faster than A.
  bool uses_dora = false;    ///< The length of each row of the sum is trained, too.
  bool uses_rslora = false;  ///< Scale alpha / sqrt(rank) instead of alpha / rank.
  std::vector<std::string> targets = {"all-linear"};  ///< Module names: the ends of their paths.
  std::string target_pattern = {};   ///< Instead: a regular expression for the whole path.
  std::vector<int64_t> layers = {};  ///< Only these blocks; empty: all.
  std::vector<RankOf> rank_pattern = {};
  std::vector<AlphaOf> alpha_pattern = {};
  Init init = Init::kKaiming;
  int64_t pissa_iterations = 0;   ///< For principal parts found at random; 0: found exactly.
  SavedModuleOptions saved = {};  ///< What is trained beside the additions.

  friend bool operator==(const LoraOptions&, const LoraOptions&) = default;
};

/// As in configurations: "kaiming".
const char* name_of(LoraOptions::Init init);

/// One module that is adapted.
struct LoraModule {
  std::string path;  ///< In transformers: "model.layers.0.self_attn.q_proj"
  int64_t layer = 0;
  LinearModule module;
  int64_t rank = 0;
  double scale = 0.0;
  std::string matrix = {};  ///< In the model's files: "model.layers.0.self_attn.q_proj.weight"

  friend bool operator==(const LoraModule&, const LoraModule&) = default;
};

/// The tensors of a module, by the ends of their names.
inline constexpr const char* kLoraDown = "lora_A.weight";               ///< A [rank, in]
inline constexpr const char* kLoraUp = "lora_B.weight";                 ///< B [out, rank]
inline constexpr const char* kLoraMagnitude = "lora_magnitude_vector";  ///< [out], of DoRA

/// As in the files of peft: "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight".
std::string tensor_name(const LoraModule& module, const char* part);

/// The modules that the options mean, in the order of the model.
/// Throws: ConfigError for a target, a pattern or a layer that means none, and for a rank that a
///   matrix does not have where its principal parts are wanted.
std::vector<LoraModule> lora_modules(const LoraOptions& options, const ModelConfig& config);

/// Takes the patterns for ranks and alphas that fit no module out, and returns them: peft loads an
/// adapter in spite of them. Throws: as lora_modules for all else.
std::vector<std::string> remove_idle_patterns(LoraOptions& options, const ModelConfig& config);

/// LoRA: low-rank additions to the linear modules of the blocks; with DoRA, and with PiSSA, which
/// changes the base by taking off what A and B begin with. `seed` is that of dropout.
/// Throws: as lora_modules and saved_tensors.
/// Source: Hu et al., arXiv:2106.09685; peft 0.21, tuners/lora (names, shapes, init, scale).
Adapter make_lora(const LoraOptions& options, uint64_t seed, const ModelConfig& config);

}  // namespace temper

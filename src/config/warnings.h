// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "config/run_config.h"
#include "model/adapter/method.h"

namespace temper {

/// What `check` and `train` warn of: common mistakes, which may be meant. `silence` in a
/// configuration names those that are.
struct WarningKind {
  const char* name;
  double least;        ///< What is fine begins here,
  double most;         ///< and ends here.
  const char* reason;  ///< Of the bounds: what a person is told after the figure.
};

inline constexpr double kNoBound = std::numeric_limits<double>::infinity();

/// All there are, but for the bounds of learning rates, which `kRateBounds` has.
inline constexpr std::array kWarningKinds = {
    WarningKind{"learning_rate", 0.0, kNoBound,
                "higher rates forget what the model knew, or end in a loss that is no number; "
                "temper find-rate measures one"},
    WarningKind{"epochs", 0.0, 4.0,
                "up to four passes teach nearly as much as new text, more teach little and are "
                "learnt by heart (arXiv:2305.16264)"},
    WarningKind{"no_holdout", 1.0, kNoBound,
                "without a hold-out nobody sees when learning turns into learning by heart; set "
                "some aside by holdout.fraction in preparation, and list it under data.holdout"},
    WarningKind{"duplicates", 0.0, 0.0,
                "what stands there often is learnt by heart (arXiv:2107.06499); prepare with "
                "deduplicate: true, and look at near_duplicates"},
    WarningKind{"loss_on_input", 0.0, 0.95,
                "questions would be learnt as much as answers; let the template mark the "
                "assistant's turns, or check conversations.train_on in preparation"},
    WarningKind{"no_end", 0.5, 1.0,
                "a model that never learns where an answer ends goes on behind it; the template "
                "should close each turn of the assistant by a token that is trained"},
    WarningKind{"template", 0.0, 0.0,
                "what the model knew in its own template is worth less in another one"},
    WarningKind{"batch_examples", 4.0, 1024.0,
                "recipes have 16 to 128 conversations a step: far fewer make a noisy gradient, far "
                "more few steps"},
    WarningKind{"batch_tokens", 512.0, 4194304.0,
                "recipes have thousands to a million tokens of text a step: far fewer make a noisy "
                "gradient, far more few steps"},
    WarningKind{"truncation", 0.0, 0.1,
                "a cut answer teaches to stop in the middle, and its end is never learnt; raise "
                "data.sequence_length, or drop long ones in preparation (too_long: drop)"},
    // Given while a run goes on; train/loss_trend.h and train/expert_use.h have their bounds.
    WarningKind{"rising_holdout", 0.0, kNoBound, ""},
    WarningKind{"rising_loss", 0.0, kNoBound, ""},
    WarningKind{"idle_experts", 0.0, kNoBound, ""},
};

/// The highest peak rate that raises no warning, by method and size of the model: twice to ten
/// times what configs/recipes/ have.
struct RateBound {
  MethodOptions::Kind method;
  double small_models;  ///< Of less than kLargeModel parameters.
  double large_models;
};
inline constexpr int64_t kLargeModel = 1'000'000'000;
inline constexpr std::array kRateBounds = {
    RateBound{MethodOptions::Kind::kFull, 3e-4, 1e-4},
    RateBound{MethodOptions::Kind::kLora, 2e-3, 1e-3},
    RateBound{MethodOptions::Kind::kQlora, 2e-3, 1e-3},
    RateBound{MethodOptions::Kind::kBottleneck, 1e-2, 5e-3},
    RateBound{MethodOptions::Kind::kPrefix, 1e-1, 1e-1},
    RateBound{MethodOptions::Kind::kPrompt, 5e-1, 5e-1},  // Lester et al., 2021, have 0.3.
};

/// The highest rate of that table for a method. Units: parameters of the model.
double highest_usual_rate(MethodOptions::Kind method, int64_t num_parameters);

/// The one of this name. Throws: std::invalid_argument if there is none.
const WarningKind& warning_kind(std::string_view name);

/// "name: text; reason (silence: [name])", on one line, without a reason where the kind has none;
/// empty if the configuration silences it. Throws: std::invalid_argument if none has this name.
std::string warning_of(const RunConfig& config, std::string_view name, const std::string& text);

/// All names, with commas between them.
std::string warning_names();

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "train/metrics_file.h"

#include <cmath>
#include <fstream>

#include "core/concat.h"
#include "core/error.h"
#include "io/file.h"
#include "io/json.h"

namespace temper {
namespace {

// JSON has no NaN: null says that the number was not finite.
Json number_or_null(double number) { return std::isfinite(number) ? Json(number) : Json(nullptr); }

// The lines of steps up to `last_step`; a torn last line is dropped.
std::string lines_up_to(const std::filesystem::path& path, int64_t last_step) {
  std::ifstream file(path);
  std::string kept;
  for (std::string line; std::getline(file, line);) {
    const Json entry = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!entry.is_object() || entry.value("step", last_step + 1) > last_step) continue;
    kept += line + '\n';
  }
  return kept;
}

}  // namespace

MetricsFile::MetricsFile(std::filesystem::path path, int64_t step) : path_(std::move(path)) {
  remove_leftovers_of(path_);
  write_file_atomically(path_, step == 0 ? "" : lines_up_to(path_, step));
}

void MetricsFile::add_step(int64_t step, const StepResult& result, const StepTiming& timing) {
  const double tokens_per_second = static_cast<double>(timing.num_tokens) / timing.seconds;
  append(Json{{"kind", "step"},
              {"step", step},
              {"loss", number_or_null(result.loss)},
              {"grad_norm", number_or_null(result.grad_norm)},
              {"learning_rate", result.learning_rate},
              {"num_targets", result.num_targets},
              {"updated", result.updated},
              {"seconds", timing.seconds},
              {"data_seconds", timing.data_seconds},
              {"tokens_per_second", tokens_per_second},
              {"limit_share", timing.limit_share}}
             .dump());
}

void MetricsFile::add_evaluation(int64_t step, const std::string& name, double loss,
                                 int64_t num_targets) {
  append(Json{{"kind", "evaluation"},
              {"step", step},
              {"name", name},
              {"loss", number_or_null(loss)},
              {"perplexity", number_or_null(std::exp(loss))},
              {"num_targets", num_targets}}
             .dump());
}

void MetricsFile::append(const std::string& line) {
  std::ofstream file(path_, std::ios::app);
  file << line << '\n' << std::flush;
  if (!file) {
    throw CheckpointError(concat(path_.string(), " cannot be written"),
                          "check the space and the rights of run.folder");
  }
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "train/metrics_file.h"

#include <cmath>
#include <fstream>

#include "core/concat.h"
#include "core/error.h"
#include "core/log.h"
#include "core/message_text.h"
#include "io/file.h"
#include "io/json.h"

namespace temper {
namespace {

// JSON has no NaN: null says that the number was not finite.
Json number_or_null(double number) { return std::isfinite(number) ? Json(number) : Json(nullptr); }

// The step of an entry. What has none was not written by this program, and is not thrown away.
int64_t step_of(const Json& entry, const std::string& place) {
  const auto step = entry.find("step");
  if (step != entry.end() && step->is_number_integer()) return step->get<int64_t>();
  const std::string found = step == entry.end() ? "is missing" : "is " + quote(step->dump());
  throw CheckpointError(concat(place, ": \"step\" ", found, ", wanted a whole number"),
                        "mend or remove that line, or move the file away");
}

// Without the step that a line of them has.
std::string facts_in(Json entry) {
  entry.erase("step");
  return entry.dump();
}

}  // namespace

MetricsFile::MetricsFile(std::filesystem::path path, int64_t step) : path_(std::move(path)) {
  remove_leftovers_of(path_);
  if (step == 0) {
    write_file_atomically(path_, "");
  } else {
    take_over(step);
  }
}

// Keeps the lines of steps up to `last_step`. What is no JSON object is a line that a killed job
// or a dead node left torn.
void MetricsFile::take_over(int64_t last_step) {
  std::ifstream file(path_);
  std::string kept;
  int64_t number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    const Json entry = object_or_null(line);
    if (entry.is_null()) continue;
    const int64_t step = step_of(entry, concat(path_.string(), " line ", number));
    if (step > last_step) continue;
    kept += line + '\n';
    if (entry.value("kind", Json()) == "run") run_facts_ = facts_in(entry);
    if (entry.value("kind", Json()) == "samples") sampled_.insert(step);
    const auto name = entry.find("name"), loss = entry.find("loss");
    if (name == entry.end() || !name->is_string() || loss == entry.end()) continue;
    losses_[*name][step] = loss->is_number() ? loss->get<double>() : INFINITY;
  }
  write_file_atomically(path_, kept);
}

void MetricsFile::add_run(int64_t step, const RunFacts& facts) {
  const Json line{{"kind", "run"},
                  {"step", step},
                  {"max_steps", facts.num_steps},
                  {"rows_per_step", facts.rows_per_step},
                  {"rows_per_micro_batch", facts.rows_per_micro_batch},
                  {"tokens_per_row", facts.tokens_per_row},
                  {"rows_per_epoch", facts.rows_per_epoch},
                  {"data_step", facts.data_step},
                  {"sources", facts.sources}};
  const std::string said = facts_in(line);
  if (said == run_facts_) return;
  run_facts_ = said;
  append(line.dump());
}

void MetricsFile::add_step(int64_t step, const StepResult& result, const StepTiming& timing) {
  const double tokens_per_second = static_cast<double>(timing.content.num_tokens) / timing.seconds;
  Json line{{"kind", "step"},
            {"step", step},
            {"loss", number_or_null(result.loss)},
            {"grad_norm", number_or_null(result.grad_norm)},
            {"learning_rate", result.learning_rate},
            {"num_targets", result.num_targets},
            {"num_tokens", timing.content.num_tokens},
            {"num_padding", timing.num_padding},
            {"document_lengths", timing.content.document_lengths},
            {"updated", result.updated},
            {"seconds", timing.seconds},
            {"data_seconds", timing.data_seconds},
            {"tokens_per_second", tokens_per_second},
            {"limit_share", timing.limit_share}};
  for (const char* phase : {"forward", "backward", "exchange", "update", "save"}) {
    const auto found = timing.phase_seconds.find(phase);
    line[concat(phase, "_seconds")] = found == timing.phase_seconds.end() ? 0.0 : found->second;
  }
  line["bytes_sent"] = timing.bytes_sent;
  line["straggler_seconds"] = timing.content.straggler_seconds;
  line["slowest_rank"] = timing.content.slowest_rank;
  if (timing.content.cpu_joules) line["cpu_joules"] = *timing.content.cpu_joules;
  for (const SourceLoss& source : result.sources) {
    line["source_losses"].push_back(source.loss ? number_or_null(*source.loss) : Json(nullptr));
    line["source_targets"].push_back(source.num_targets);
  }
  for (const auto& [unit, norm] : result.unit_grad_norms) {
    line["unit_grad_norms"][unit] = number_or_null(norm);
  }
  for (const UpdateSize& size : result.update_sizes) {
    line["unit_update_ratios"][size.unit] = number_or_null(size.update_norm / size.weight_norm);
  }
  if (result.kl) line["kl"] = number_or_null(*result.kl);
  if (!result.experts.shares.empty()) {
    line["expert_shares"] = result.experts.shares;
    line["idle_experts"] = result.experts.idle_share;
  }
  append(line.dump());
}

const HoldOutLosses& MetricsFile::losses(const std::string& name) const {
  static const HoldOutLosses kNone;
  const auto found = losses_.find(name);
  return found == losses_.end() ? kNone : found->second;
}

std::optional<double> MetricsFile::add_evaluation(int64_t step, const HoldOut& holdout,
                                                  const EvaluationResult& result) {
  Json line{{"kind", "evaluation"},
            {"step", step},
            {"name", holdout.name},
            {"loss", number_or_null(result.loss)},
            {"perplexity", number_or_null(std::exp(result.loss))},
            {"num_targets", result.num_targets}};
  if (result.documents) {
    const DocumentLoss& documents = *result.documents;
    line["num_documents"] = documents.num_documents;
    if (documents.standard_error) line["standard_error"] = *documents.standard_error;
    if (documents.bits_per_byte) line["bits_per_byte"] = *documents.bits_per_byte;
    if (documents.bits_per_byte_error) line["bits_per_byte_error"] = *documents.bits_per_byte_error;
  }
  HoldOutLosses& losses = losses_[holdout.name];
  losses[step] = std::isfinite(result.loss) ? result.loss : INFINITY;
  std::optional<double> forgetting;
  if (holdout.is_general && losses.size() > 1) {
    forgetting = result.loss - losses.begin()->second;
    line["forgetting"] = number_or_null(*forgetting);
  }
  append(line.dump());
  return forgetting;
}

void MetricsFile::add_samples(int64_t step, const std::vector<Json>& samples) {
  sampled_.insert(step);
  append(Json{{"kind", "samples"}, {"step", step}, {"samples", samples}}.dump());
}

// Only a loss of power could show that a line was not flushed: no reason to end the run.
void MetricsFile::sync() const {
  try {
    File::open_shared(path_, FilePurpose::kCheckpoint).sync();
  } catch (const CheckpointError& error) {
    log_event(concat("metrics warning=\"", error.problem(), '"'));
  }
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

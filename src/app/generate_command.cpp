// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>

#include "app/commands.h"
#include "app/ending.h"
#include "app/loaded_model.h"
#include "checkpoint/generation_config.h"
#include "checkpoint/together.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/log.h"
#include "core/message_text.h"
#include "data/shard_checks.h"
#include "io/file.h"
#include "train/generation.h"

namespace temper {
namespace {

// What lies beside the weights and concerns those who generate: the tokenizer that prompts are
// encoded by, and the settings that others would generate with.
void look_at_companions(const std::filesystem::path& folder) {
  const std::filesystem::path tokenizer = folder / "tokenizer.json";
  if (is_there(tokenizer)) require_whole_tokenizer(tokenizer);
  const std::filesystem::path path = folder / "generation_config.json";
  if (!is_there(path)) return;
  const GenerationKeys keys =
      read_generation_keys(read_file(path, FilePurpose::kModel), path.string());
  if (!keys.not_applied.empty()) {
    log_event(concat("warning=\"", path.string(), " asks for ", list_names(keys.not_applied),
                     ", which is not applied: give --temperature, --top-k and --top-p for what "
                     "they can set\""));
  }
  if (!keys.unknown.empty()) {
    log_event(concat("warning=\"", path.string(),
                     " has keys that are not known here: ", list_names(keys.unknown), '"'));
  }
}

void print_tokens(const std::vector<int64_t>& tokens) {
  for (size_t k = 0; k < tokens.size(); ++k) {
    std::printf(k == 0 ? "%lld" : ",%lld", static_cast<long long>(tokens[k]));
  }
  std::printf("\n");
  std::fflush(stdout);
}

// Answers in the order of their requests, each as soon as those before it are there.
class AnswerPrinter {
 public:
  void add(size_t request, const Answer& answer) {
    waiting_[request] = answer.tokens;
    while (!waiting_.empty() && waiting_.begin()->first == num_printed_) {
      print_tokens(waiting_.begin()->second);
      waiting_.erase(waiting_.begin());
      ++num_printed_;
    }
  }

 private:
  std::map<size_t, std::vector<int64_t>> waiting_;  // By request.
  size_t num_printed_ = 0;
};

// As many for each prompt as answers are wanted.
std::vector<GenerationRequest> make_requests(const GenerateOptions& options) {
  std::vector<GenerationRequest> requests;
  for (const std::vector<int64_t>& prompt : options.prompts) {
    for (int i = 0; i < options.num_answers; ++i) requests.push_back({prompt, requests.size()});
  }
  return requests;
}

}  // namespace

int run_generate(const GenerateOptions& options) {
  return run_under_mpi([&](const MpiSession& session) {
    const RunConfig start = config_of(options.model);
    auto ranks = open_ranks(session, start);
    const RunConfig config = with_chosen_weights(options.model, start, *ranks);
    LoadedModel model(session, std::move(ranks), config, ModelOpening::Use::kGeneration);
    int64_t longest = 0;
    for (const std::vector<int64_t>& prompt : options.prompts) {
      require_usable(prompt, options.generation, model.folder().config(),
                     config.method.num_virtual_tokens());
      longest = std::max(longest, std::ssize(prompt));
    }
    model.choose_positions(config.method.num_virtual_tokens() + longest +
                           options.generation.max_new_tokens);
    do_on_rank_0(*model.ranks, [&] { look_at_companions(model.folder().path()); });
    model.load_start();
    AnswerPrinter printer;
    generate(*model.engine, *model.ranks, make_requests(options), options.generation,
             [&](size_t request, const Answer& answer) {
               if (session.rank() == 0) printer.add(request, answer);
             });
    return static_cast<int>(ExitCode::kFinished);
  });
}

}  // namespace temper

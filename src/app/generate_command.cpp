// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "app/answer_file.h"
#include "app/commands.h"
#include "app/generate_answers.h"
#include "app/generate_requests.h"
#include "app/launch_check.h"
#include "app/loaded_model.h"
#include "app/request_stream.h"
#include "checkpoint/generation_config.h"
#include "checkpoint/together.h"
#include "core/clock.h"
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

// Answers to --prompts in their order, each as soon as those before it are there: ids with commas.
class AnswerPrinter {
 public:
  void add(size_t index, const Answer& answer) {
    waiting_[index] = answer.tokens;
    while (!waiting_.empty() && waiting_.begin()->first == num_printed_) {
      std::string line;
      for (const int64_t token : waiting_.begin()->second) {
        line += concat(line.empty() ? "" : ",", token);
      }
      print(line + '\n');
      waiting_.erase(waiting_.begin());
      ++num_printed_;
    }
  }

 private:
  std::map<size_t, std::vector<int64_t>> waiting_;  // By the number of the answer.
  size_t num_printed_ = 0;
};

// The tokens of the longest prompt with its answer.
template <typename Requests>
int64_t longest_of(const Requests& requests) {
  int64_t longest = 0;
  for (const auto& one : requests) {
    longest = std::max(longest, std::ssize(one.prompt) + one.options.max_new_tokens);
  }
  return longest;
}

// One verb with a model, in its three ways.
class GenerateVerb {
 public:
  GenerateVerb(LoadedModel& model, const GenerateOptions& options)
      : model_(model),
        options_(options),
        rules_{options.generation, options.num_answers, model.folder().config(),
               model.method.num_virtual_tokens()} {}

  void answer_prompts() {
    std::vector<GenerationRequest> requests;
    for (size_t i = 0; i < options_.prompts.size(); ++i) {
      const PromptRequest asked{i, options_.prompts[i], rules_.options, rules_.num_answers};
      const auto unusable = find_unusable(asked.prompt, asked.options.max_new_tokens, rules_.model,
                                          rules_.num_virtual_tokens);
      if (unusable) throw ConfigError(unusable->problem, unusable->remedy);
      for (GenerationRequest& one : asked.to_generation(i)) requests.push_back(std::move(one));
    }
    load(longest_of(requests));
    AnswerPrinter printer;
    run({.next = all_at_once(std::move(requests)), .take = [&](size_t index, const Answer& answer) {
           if (ranks().rank() == 0) printer.add(index, answer);
         }});
  }

  void answer_stream() {
    load(rules_.model.max_positions - rules_.num_virtual_tokens);  // Whatever comes.
    RequestStream stream(rules_, ranks());
    run(stream.flow());
  }

  void answer_file(const MpiSession& session) {
    std::optional<PromptRequests> asked;
    read_requests_together(session, ranks(), [&] {
      asked = read_prompt_requests(options_.requests, rules_);
      return asked->list.digest;
    });
    std::optional<AnswerFile> answers;  // On rank 0.
    do_on_rank_0(ranks(), [&] {
      Json origin = origin_of(model_, asked->list, "temper-generate 1");
      origin["options"] = origin_of(rules_);
      answers.emplace(options_.output, asked->requests.size(),
                      AnswerFile::Rules{std::move(origin), [&](size_t request, const Json& answer) {
                                          return is_whole(answer,
                                                          asked->requests[request].num_answers);
                                        }});
    });
    answer_open(asked->requests, answers);
    do_on_rank_0(ranks(), [&] {
      answers->publish(asked->list.ids, [](size_t, Json answer) { return answer; });
    });
  }

 private:
  Communicator& ranks() { return *model_.ranks; }

  // For texts of so many tokens, at most.
  void load(int64_t longest) {
    model_.choose_positions(rules_.num_virtual_tokens + longest);
    do_on_rank_0(ranks(), [&] { look_at_companions(model_.folder().path()); });
    model_.load_start();
  }

  void run(const GenerationFlow& flow) {
    generate(*model_.engine, ranks(), options_.at_once, flow);
  }

  void answer_open(const std::vector<PromptRequest>& asked, std::optional<AnswerFile>& answers) {
    constexpr double kSecondsBetweenLines = 10.0;
    const std::vector<size_t> open = open_requests(asked.size(), answers, ranks());
    size_t num_done = asked.size() - open.size();
    int64_t num_tokens = 0;
    Stopwatch since_start, since_line;
    const auto log = [&] {
      const double rate = static_cast<double>(num_tokens) / since_start.seconds();
      log_event(concat("generate requests=", asked.size(), " done=", num_done,
                       " tokens=", num_tokens, " tokens_per_second=", rate));
      since_line.restart();
    };
    log_event(concat("generate requests=", asked.size(), " done=", num_done));
    if (open.empty()) return;
    PendingAnswers pending;
    std::vector<GenerationRequest> requests;
    for (const size_t request : open) {
      for (GenerationRequest& one : pending.begin(request, asked[request])) {
        requests.push_back(std::move(one));
      }
    }
    load(longest_of(asked));
    since_start.restart();
    run({.next = all_at_once(std::move(requests)), .take = [&](size_t index, const Answer& answer) {
           num_tokens += std::ssize(answer.tokens);
           const size_t request = pending.place(index).request;
           std::optional<Json> whole = pending.take(index, answer);
           if (!whole) return;
           ++num_done;
           if (answers) answers->add(request, std::move(*whole));
           if (since_line.seconds() >= kSecondsBetweenLines) log();
         }});
    log();
  }

  LoadedModel& model_;
  const GenerateOptions& options_;
  PromptRules rules_;
};

int generate_answers(const MpiSession& session, const GenerateOptions& options) {
  const RunConfig start = config_of(options.model);
  auto ranks = open_ranks(session, start);
  const RunConfig config = with_chosen_weights(options.model, start, *ranks);
  LoadedModel model(session, std::move(ranks), config, ModelOpening::Use::kGeneration);
  GenerateVerb verb(model, options);
  if (options.requests.empty()) {
    verb.answer_prompts();
  } else if (options.requests == kStandardInput) {
    verb.answer_stream();
  } else {
    verb.answer_file(session);
  }
  return static_cast<int>(ExitCode::kFinished);
}

}  // namespace

int run_generate(const GenerateOptions& options) {
  const bool takes_output = !options.requests.empty() && options.requests != kStandardInput;
  if (!options.output.empty() && !takes_output) {
    throw ConfigError("--output is set, but answers are kept only for a file of --requests",
                      "give --requests FILE, or leave --output out");
  }
  return run_as_launched(
      [&](const MpiSession& session) { return generate_answers(session, options); });
}

}  // namespace temper

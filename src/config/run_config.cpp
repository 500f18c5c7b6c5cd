// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>
#include <optional>

#include "config/run_config_keys.h"
#include "config/warnings.h"

namespace temper {
namespace {

constexpr int64_t kMostSteps =
    1'000'000'000'000;  // Arbitrary; products with batches stay in range.

template <int64_t kLeast, int64_t kMost>
bool is_between(int64_t number) {
  return number >= kLeast && number <= kMost;
}

constexpr Rule<int64_t> kStepsOrNone{is_between<0, kMostSteps>, "a whole number, 0 or more"};
constexpr Rule<int64_t> kOneOrMore{is_between<1, kMostSteps>, "a whole number, 1 or more"};
constexpr Rule<int64_t> kRows{is_between<1, 1'000'000>, "a whole number from 1 to 1000000"};
constexpr Rule<int64_t> kTokens{is_between<2, 16'777'216>, "a whole number from 2 to 16777216"};
constexpr Rule<int64_t> kTokensOrAll{is_between<0, 1'000'000'000'000'000>,
                                     "a whole number of tokens, or 0 for all"};
constexpr Rule<int64_t> kThreads{is_between<1, 1024>, "a whole number from 1 to 1024"};
constexpr Rule<int64_t> kThreadsOrAuto{is_between<0, 1024>,
                                       "a whole number from 1 to 1024, or 0 to choose"};
constexpr Rule<int64_t> kSeed{is_between<0, std::numeric_limits<int64_t>::max()>,
                              "a whole number, 0 or more"};
constexpr Rule<int64_t> kIterations{is_between<0, 1000>,
                                    "a whole number from 1 to 1000, or 0 for the exact way"};
constexpr Rule<int64_t> kRank{is_between<1, 65'536>, "a whole number from 1 to 65536"};
constexpr Rule<int64_t> kWidthOrNone{is_between<0, 1'048'576>, "a width, or 0 for none"};
constexpr Rule<int64_t> kVirtualTokens{is_between<1, 65'536>, "a whole number from 1 to 65536"};
constexpr Rule<int64_t> kTokenId{is_between<0, 1'000'000'000>, "the id of a token"};
constexpr Rule<int64_t> kLayer{is_between<0, 1'000'000>, "the number of a block, from 0"};
constexpr Rule<int64_t> kStage{is_between<0, 3>, "0, 1, 2 or 3"};

constexpr Rule<double> kReduction{[](double x) { return x >= BottleneckOptions::kLowestReduction; },
                                  "a number from 0.015625 (1/64) on"};
constexpr Rule<double> kPositive{[](double x) { return x > 0.0; }, "a positive number"};
constexpr Rule<double> kEpochs{[](double x) { return x >= 0.0 && x <= 1e6; },
                               "a number from 0 to 1000000"};
constexpr Rule<double> kPasses{[](double x) { return x > 0.0 && x <= 1e6; },
                               "a positive number, at most 1000000"};
constexpr Rule<double> kNotNegative{[](double x) { return x >= 0.0; }, "zero or a positive number"};
constexpr Rule<double> kShare{[](double x) { return x >= 0.0 && x <= 1.0; },
                              "a number from 0 to 1"};
constexpr Rule<double> kShareOfRate{[](double x) { return x > 0.0 && x <= 1.0; },
                                    "a number above 0, at most 1"};
constexpr Rule<double> kBelowOne{[](double x) { return x >= 0.0 && x < 1.0; },
                                 "a number from 0 to below 1"};

bool is_path(const std::string& text) {
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; };
  return !text.empty() && text.front() != '~' && text.find('$') == std::string::npos &&
         std::none_of(text.begin(), text.end(), is_control);
}

bool is_name(const std::string& text) {
  const auto is_plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  };
  return !text.empty() && std::all_of(text.begin(), text.end(), is_plain);
}

bool is_path_or_nothing(const std::string& text) { return text.empty() || is_path(text); }
bool is_some(const std::string& text) { return !text.empty(); }

// ~ and $ would have been taken literally, which nobody means.
constexpr TextRule kFolder{is_path, "the path of a folder, written out (no ~, no $)"};
constexpr TextRule kShard{is_path, "the path of a token shard, written out (no ~, no $)"};
constexpr TextRule kFolderOrNone{
    is_path_or_nothing, "the path of a folder, written out (no ~, no $), or \"\" for none"};
constexpr TextRule kAnyText{[](const std::string&) { return true; }, "a text"};
constexpr TextRule kSomeText{is_some, "a regular expression for the end of a module's path"};
constexpr TextRule kParameters{
    is_some,
    "embedding, head, norms, biases, blocks such as layers.0-3, or a regular expression for the "
    "end of a module's path"};
constexpr TextRule kModule{is_name, "a module's name such as q_proj, or all-linear"};
constexpr TextRule kName{is_name, "a name of letters, digits, '-', '_' and '.'"};
constexpr TextRule kNameOrNone{
    [](const std::string& text) { return text.empty() || is_name(text); },
    "the name of a hold-out, or \"\" for none"};
constexpr TextRule kStepRange{
    [](const std::string& text) { return text.empty() || steps_in(text).has_value(); },
    "a step or a range of steps such as 10-12, or \"\" for none"};
constexpr TextRule kAdapterName{
    [](const std::string& text) { return is_name(text) && text.find('.') == std::string::npos; },
    "a name of letters, digits, '-' and '_'"};
constexpr TextRule kCheckpointOrNone{
    is_path_or_nothing,
    "the path of a checkpoint's folder, written out (no ~, no $), or \"\" for none"};
constexpr TextRule kAspect{[](const std::string& text) {
                             return std::find(kChangeableAspects.begin(), kChangeableAspects.end(),
                                              text) != kChangeableAspects.end();
                           },
                           "one of: steps, schedule, optimizer, data"};
constexpr TextRule kResume{is_path, "auto, never, or the path of a checkpoint folder"};
constexpr TextRule kSavedDtype{[](const std::string& text) {
                                 return text == "auto" || text == "float32" || text == "bfloat16" ||
                                        text == "float16";
                               },
                               "one of: auto, float32, bfloat16, float16"};

using Dtype = ModelOptions::Dtype;
using Device = ModelOptions::Device;
using Shape = ScheduleOptions::Shape;

constexpr Choice<Dtype> kDtypes[] = {
    {"auto", Dtype::kAuto}, {"float32", Dtype::kFloat32}, {"bfloat16", Dtype::kBfloat16}};
constexpr Choice<ModelOptions::EndOfTurn> kTurnEnds[] = {{"keep", ModelOptions::EndOfTurn::kKeep},
                                                         {"add", ModelOptions::EndOfTurn::kAdd}};
constexpr Choice<Device> kDevices[] = {{"cpu", Device::kCpu}, {"cuda", Device::kCuda}};
constexpr Choice<DataOptions::ChatTemplate> kChatTemplates[] = {
    {"model", DataOptions::ChatTemplate::kModel},
    {"shard", DataOptions::ChatTemplate::kShard},
    {"any", DataOptions::ChatTemplate::kAny}};
constexpr Choice<Shape> kShapes[] = {{"constant", Shape::kConstant},
                                     {"linear", Shape::kLinear},
                                     {"cosine", Shape::kCosine},
                                     {"wsd", Shape::kWsd}};
constexpr Choice<MethodOptions::Kind> kMethods[] = {
    {"full", MethodOptions::Kind::kFull},     {"lora", MethodOptions::Kind::kLora},
    {"qlora", MethodOptions::Kind::kQlora},   {"prefix", MethodOptions::Kind::kPrefix},
    {"prompt", MethodOptions::Kind::kPrompt}, {"bottleneck", MethodOptions::Kind::kBottleneck}};
constexpr Choice<LoraOptions::Init> kLoraInits[] = {{"kaiming", LoraOptions::Init::kKaiming},
                                                    {"gaussian", LoraOptions::Init::kGaussian},
                                                    {"pissa", LoraOptions::Init::kPrincipal}};
constexpr Choice<FourBitKind> kFourBitKinds[] = {{"nf4", FourBitKind::kNf4},
                                                 {"fp4", FourBitKind::kFp4}};
constexpr Choice<PromptOptions::Init> kPromptInits[] = {
    {"normal", PromptOptions::Init::kNormal},
    {"vocabulary", PromptOptions::Init::kVocabulary},
    {"tokens", PromptOptions::Init::kTokens}};
constexpr Choice<BottleneckOptions::Placement> kPlacements[] = {
    {"houlsby", BottleneckOptions::Placement::kHoulsby},
    {"pfeiffer", BottleneckOptions::Placement::kPfeiffer}};
constexpr Choice<std::optional<ActivationFunction>> kActivations[] = {
    {"auto", std::nullopt},
    {"relu", ActivationFunction::kRelu},
    {"swish", ActivationFunction::kSwish},
    {"silu", ActivationFunction::kSwish},
    {"gelu", ActivationFunction::kGelu},
    {"gelu_new", ActivationFunction::kGeluNew},
    {"quick_gelu", ActivationFunction::kQuickGelu}};
constexpr Choice<MomentDtype> kMomentDtypes[] = {{"float32", MomentDtype::kFloat32},
                                                 {"bfloat16", MomentDtype::kBfloat16},
                                                 {"int8", MomentDtype::kInt8}};
constexpr Choice<Reduction> kReductions[] = {{"exact", Reduction::kExact},
                                             {"fast", Reduction::kFast}};

constexpr Choice<HoldOutOptions::Role> kRoles[] = {{"any", HoldOutOptions::Role::kAny},
                                                   {"domain", HoldOutOptions::Role::kDomain},
                                                   {"task", HoldOutOptions::Role::kTask},
                                                   {"general", HoldOutOptions::Role::kGeneral}};
constexpr Choice<bool> kPublished[] = {{"newest", false}, {"best", true}};

template <typename Visitor>
void visit_data(Visitor& section, RunConfig& config) {
  DataOptions& data = config.data;
  section.list("train", data.sources, [](auto& item, auto& source) {
    item.text("path", source.path, kShard);
    item.real_or_none("weight", source.weight, kPositive);
    item.real("epochs", source.epochs, kPasses);
    item.integer("max_tokens", source.max_tokens, kTokensOrAll);
  });
  section.section("mixture", [&](auto& mixture) {
    mixture.real("temperature", data.mixture.temperature, kPositive);
  });
  section.list("holdout", config.holdouts, [](auto& item, auto& holdout) {
    item.text("name", holdout.name, kName);
    item.text("path", holdout.path, kShard);
    item.integer("max_rows", holdout.max_rows, kStepsOrNone);
    item.choice("role", holdout.role, kRoles);
  });
  section.choice("chat_template", data.chat_template, kChatTemplates);
  section.integer("sequence_length", data.sequence_length, kTokens);
  section.integer("global_batch", data.global_batch_rows, kRows);
  section.integer("micro_batch", data.micro_batch_rows, kRows);
  section.integer("seed", data.seed, kSeed);
  section.integer("loader_threads", data.loader_threads, kThreads);
  section.integer("prefetch", data.prefetch_depth, kThreads);
}

template <typename Visitor>
void visit_lora(Visitor& section, LoraOptions& lora) {
  section.integer("rank", lora.rank, kRank);
  section.real("alpha", lora.alpha, kPositive);
  section.real("dropout", lora.dropout, kBelowOne);
  section.texts("targets", lora.targets, kModule);
  section.text("target_pattern", lora.target_pattern, kAnyText);
  section.integers("layers", lora.layers, kLayer);
  section.list("rank_pattern", lora.rank_pattern, [](auto& item, auto& one) {
    item.text("module", one.module, kSomeText);
    item.integer("rank", one.rank, kRank);
  });
  section.list("alpha_pattern", lora.alpha_pattern, [](auto& item, auto& one) {
    item.text("module", one.module, kSomeText);
    item.real("alpha", one.alpha, kPositive);
  });
  section.flag("use_rslora", lora.uses_rslora);
  section.real("plus_ratio", lora.plus_ratio, kPositive);
  section.flag("use_dora", lora.uses_dora);
  section.choice("init", lora.init, kLoraInits);
  section.integer("pissa_niter", lora.pissa_iterations, kIterations);
  section.texts("modules_to_save", lora.saved.modules, kModule);
  section.integers("trainable_tokens", lora.saved.tokens, kTokenId);
  section.flag("train_head_rows", lora.saved.trains_head_rows);
}

template <typename Visitor>
void visit_method(Visitor& root, MethodOptions& method) {
  root.choice("method", method.kind, kMethods);
  root.section("adapter", [&](auto& section) {
    section.text("start", method.start, kFolderOrNone);
    section.integer("seed", method.seed, kSeed);
  });
  root.section("lora", [&](auto& section) { visit_lora(section, method.lora); });
  root.section("prefix", [&](auto& section) {
    section.integer("tokens", method.prefix.num_tokens, kVirtualTokens);
    section.real("deviation", method.prefix.deviation, kNotNegative);
    section.integer("projection", method.prefix.projection, kWidthOrNone);
  });
  root.section("bottleneck", [&](auto& section) {
    section.choice("placement", method.bottleneck.placement, kPlacements);
    section.real("reduction_factor", method.bottleneck.reduction_factor, kReduction);
    section.choice("activation", method.bottleneck.activation, kActivations);
    section.text("name", method.bottleneck.name, kAdapterName);
  });
  root.section("prompt", [&](auto& section) {
    section.integer("tokens", method.prompt.num_tokens, kVirtualTokens);
    section.choice("init", method.prompt.init, kPromptInits);
    section.integers("token_ids", method.prompt.token_ids, kTokenId);
  });
}

template <typename Visitor>
void visit_train(Visitor& section, RunConfig& config) {
  TrainOptions& train = config.train;
  section.integer("max_steps", train.max_steps, kStepsOrNone);
  section.real("epochs", train.epochs, kEpochs);
  section.real("max_grad_norm", train.max_grad_norm, kNotNegative);
  section.real("layer_decay", train.layer_decay, kShareOfRate);
  section.real("l2_sp", train.l2_sp, kNotNegative);
  section.section("ema", [&](auto& ema) { ema.real("decay", train.ema_decay, kBelowOne); });
  section.section("kl", [&](auto& kl) {
    kl.real("weight", train.kl.weight, kNotNegative);
    kl.real("temperature", train.kl.temperature, kPositive);
  });
  section.texts("only", config.trained.only, kParameters);
  section.texts("freeze", config.trained.freeze, kParameters);
  section.integer("max_skipped_in_a_row", train.max_skipped_in_a_row, kOneOrMore);
  section.integer("log_every_steps", train.log_every_steps, kOneOrMore);
  section.integer("log_unit_norms", train.log_unit_norms, kStepsOrNone);
  section.section("profile",
                  [&](auto& profile) { profile.text("steps", train.profile_steps, kStepRange); });
  section.integer("evaluate_every_steps", train.evaluate_every_steps, kStepsOrNone);
  section.flag("recompute", train.recomputes);
  section.integer("threads", train.threads, kThreadsOrAuto);
  section.real("time_limit_minutes", train.time_limit_minutes, kNotNegative);
}

template <typename Visitor>
void visit_optimizer(Visitor& section, RunConfig& config) {
  AdamWOptions& optimizer = config.optimizer;
  section.real("learning_rate", optimizer.learning_rate, kPositive);
  section.real("beta1", optimizer.beta1, kBelowOne);
  section.real("beta2", optimizer.beta2, kBelowOne);
  section.real("epsilon", optimizer.epsilon, kPositive);
  section.real("weight_decay", optimizer.weight_decay, kNotNegative);
  section.choice("state_dtype", optimizer.state_dtype, kMomentDtypes);
  section.text("offload", optimizer.offload, kFolderOrNone);
  section.list("groups", config.groups, [](auto& item, auto& group) {
    item.texts("match", group.match, kParameters);
    item.real_or_none("learning_rate", group.learning_rate, kPositive);
    item.real_or_none("learning_rate_ratio", group.learning_rate_ratio, kPositive);
    item.real_or_none("weight_decay", group.weight_decay, kNotNegative);
  });
}

template <typename Visitor>
void visit_schedule(Visitor& section, ScheduleOptions& schedule) {
  section.choice("name", schedule.shape, kShapes);
  section.integer("warmup_steps", schedule.warmup_steps, kStepsOrNone);
  section.real("warmup_ratio", schedule.warmup_ratio, kShare);
  section.real("floor_ratio", schedule.floor_ratio, kShare);
  section.real("decay_ratio", schedule.decay_ratio, kShare);
}

template <typename Visitor>
void visit_checkpoint(Visitor& section, CheckpointOptions& checkpoint) {
  section.integer("every_steps", checkpoint.every_steps, kStepsOrNone);
  section.integer("keep", checkpoint.keep, kOneOrMore);
  section.text("keep_best", checkpoint.keep_best, kNameOrNone);
  section.choice("final", checkpoint.publishes_best, kPublished);
  section.text("resume", checkpoint.resume, kResume);
  section.text("model_dtype", checkpoint.model_dtype, kSavedDtype);
}

// Every key there is. The visitor reads (Section) or writes (SectionWriter).
template <typename Visitor>
void visit(Visitor& root, RunConfig& config) {
  root.section("run", [&](auto& section) { section.text("folder", config.run.folder, kFolder); });
  root.section("model", [&](auto& section) {
    section.text("path", config.model.path, kFolder);
    section.choice("dtype", config.model.dtype, kDtypes);
    section.choice("device", config.model.device, kDevices);
    section.choice("end_of_turn", config.model.end_of_turn, kTurnEnds);
  });
  visit_method(root, config.method);
  root.section("quantise", [&](auto& section) {
    section.choice("type", config.quantise.kind, kFourBitKinds);
    section.flag("double", config.quantise.is_double);
  });
  root.section("data", [&](auto& section) { visit_data(section, config); });
  root.section("train", [&](auto& section) { visit_train(section, config); });
  root.section("early_stop", [&](auto& section) {
    section.text("holdout", config.train.early_stop.holdout, kNameOrNone);
    section.integer("patience", config.train.early_stop.patience, kOneOrMore);
    section.real("min_gain", config.train.early_stop.min_gain, kNotNegative);
  });
  root.section("optimizer", [&](auto& section) { visit_optimizer(section, config); });
  root.section("schedule", [&](auto& section) { visit_schedule(section, config.schedule); });
  root.section("parallel", [&](auto& section) {
    section.integer("stage", config.parallel.stage, kStage);
    section.choice("reduction", config.parallel.reduction, kReductions);
    section.flag("prefetch", config.parallel.prefetches);
  });
  root.section("checkpoint", [&](auto& section) { visit_checkpoint(section, config.checkpoint); });
  root.section("continue", [&](auto& section) {
    section.text("from", config.continuation.from, kCheckpointOrNone);
    section.texts("change", config.continuation.change, kAspect);
  });
  root.section("watchdog", [&](auto& section) {
    section.real("silence_seconds", config.watchdog.silence_seconds, kNotNegative);
    section.real("stall_seconds", config.watchdog.stall_seconds, kNotNegative);
  });
  static const std::string names = "one of: " + warning_names();
  root.texts("silence", config.silence, TextRule{is_warning_name, names.c_str()});
}

}  // namespace

void visit_keys(Section& root, RunConfig& config) { visit(root, config); }

void visit_keys(SectionWriter& root, RunConfig& config) { visit(root, config); }

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/checkpoint_saver.h"

#include <algorithm>
#include <exception>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <system_error>

#include "checkpoint/checkpoint_list.h"
#include "checkpoint/companion_files.h"
#include "checkpoint/frozen_tensors.h"
#include "checkpoint/new_folder.h"
#include "checkpoint/retention.h"
#include "checkpoint/together.h"
#include "comm/bytes.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/log.h"
#include "io/file.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

DType saved_dtype(const PublishedFolder& published, const CheckpointOptions& options) {
  return options.model_dtype == "auto" ? published.stored_dtype
                                       : dtype_named(options.model_dtype, "checkpoint.model_dtype");
}

std::optional<int64_t> best_of(const fs::path& folder, const std::map<int64_t, double>& losses,
                               int64_t newest) {
  std::optional<int64_t> best;
  for (const FoundCheckpoint& checkpoint : list_checkpoints(folder)) {
    const auto loss = losses.find(checkpoint.step);
    if (checkpoint.step > newest || loss == losses.end()) continue;
    if (!best || loss->second <= losses.at(*best)) best = checkpoint.step;  // The newest first.
  }
  return best;
}

}  // namespace

CheckpointSaver::CheckpointSaver(const SaverSetup& setup, const PublishedFolder& published,
                                 const CheckpointOptions& options)
    : setup_(setup),
      keep_(std::max<int64_t>(1, options.keep)),
      checkpoints_(checkpoints_of(setup.run)),
      published_(published.files.folder),
      base_(published.base),
      model_dtype_(saved_dtype(published, options)),
      copy_(setup.store, setup.ranks, setup.saved),
      unit_files_(
          plan_unit_files(copy_.saved(), published.files,
                          {model_dtype_, stored_dtype_of(setup.store.options().moment_dtype),
                           setup.store.options().has_means()},
                          published.base)),
      newest_(setup.resumed_step) {
  do_on_rank_0(setup_.ranks, [&] {
    companions_ = published.companions(model_dtype_);
    for (TextFile& file : companions_) file.path = concat(published_, '/', file.path);
    indexes_ = make_indexes(copy_.saved(), published.files, unit_files_);
  });
}

fs::path CheckpointSaver::temporary() const { return checkpoints_ / (name_ + ".tmp"); }

void CheckpointSaver::begin(const RunState& state, StoreUse use) {
  if (writer_.is_active()) throw std::logic_error("a checkpoint is under way already");
  watch_.restart();
  settle();
  step_ = state.step;
  name_ = checkpoint_name(step_);
  do_on_rank_0(setup_.ranks, [this] { prepare_folder(); });
  is_first_ = false;
  if (use == StoreUse::kRests) {
    copy_.borrow();
  } else {
    copy_.take();
  }
  if (setup_.ranks.rank() == 0) text_files_ = make_text_files(state);
  writer_.start(plan_jobs(), use == StoreUse::kRests ? Haste::kHurries : Haste::kGivesWay);
}

void CheckpointSaver::prepare_folder() const {
  make_folder(checkpoints_);
  remove_leftovers(checkpoints_);
  if (is_first_) set_aside_after(checkpoints_, setup_.resumed_step);
  require_space();
  make_folder(temporary() / published_);
  for (const TextFile& file : companions_) make_folder((temporary() / file.path).parent_path());
  make_folder(temporary() / "optimizer");
}

void CheckpointSaver::require_space() const {
  int64_t wanted = 0;
  for (const UnitFile& file : unit_files_) wanted += file.bytes();
  std::error_code error;
  const fs::space_info space = fs::space(checkpoints_, error);
  if (error || space.available >= static_cast<uintmax_t>(wanted)) return;
  throw CheckpointError(concat("a checkpoint takes ", wanted, " bytes, but ", checkpoints_.string(),
                               " has only ", space.available, " left"),
                        "free some space, or lower checkpoint.keep");
}

std::vector<TextFile> CheckpointSaver::make_text_files(const RunState& state) const {
  std::vector<TextFile> files = companions_;
  files.insert(files.end(), indexes_.begin(), indexes_.end());
  files.push_back({"state.json", to_json(state)});
  return files;
}

// What of a unit's file this rank writes.
FilePart CheckpointSaver::own_part(const UnitFile& file) const {
  const UnitLayout& unit = copy_.saved()[static_cast<size_t>(file.unit)];
  const bool is_passed = unit.use() == UnitLayout::Use::kPassedOn;
  if (!is_passed && unit.use() != UnitLayout::Use::kFrozen) return copy_.part(file);
  const Range owned = copy_.owned(file.unit);
  FilePart part{file.bytes_of(owned).begin, {}, {}, file.dtype};
  if (is_passed) {
    part.bytes = passed_bytes(*base_, unit, owned);
  } else {
    part.source = frozen_numbers(*base_, unit, owned);
  }
  return part;
}

// Rank 0's header comes first, this rank's slice last.
FileJob CheckpointSaver::unit_job(const UnitFile& file) const {
  FileJob job{temporary() / file.path, {}};
  if (setup_.ranks.rank() == 0) job.parts.push_back({0, file.header, {}, DType::kU8});
  if (!copy_.owned(file.unit).is_empty()) job.parts.push_back(own_part(file));
  return job;
}

std::vector<FileJob> CheckpointSaver::plan_jobs() const {
  std::vector<FileJob> jobs;
  for (const UnitFile& file : unit_files_) jobs.push_back(unit_job(file));
  std::rotate(jobs.begin(), jobs.begin() + static_cast<std::ptrdiff_t>(first_file()), jobs.end());
  for (const TextFile& file : text_files_) {
    jobs.push_back({temporary() / file.path, {{0, file.text, {}, DType::kU8}}});
  }
  return jobs;
}

void CheckpointSaver::publish() {
  try {
    JobDigests own;
    do_together(setup_.ranks, [&] { own = in_order_of_files(writer_.take_digests()); });
    const std::vector<Digest> slices = gather_slice_digests(own);
    do_on_rank_0(setup_.ranks, [&] { finish_folder(own, slices); });
  } catch (const CheckpointError&) {
    abandon();
    throw;
  }
  newest_ = step_;
  if (setup_.ranks.rank() == 0) start_removal();
}

// This rank's first unit file: each rank begins with another one.
size_t CheckpointSaver::first_file() const {
  return first_file_of(setup_.ranks.rank(), setup_.ranks.world_size(), unit_files_.size());
}

CheckpointSaver::JobDigests CheckpointSaver::in_order_of_files(JobDigests written) const {
  const auto end = written.begin() + static_cast<std::ptrdiff_t>(unit_files_.size());
  std::rotate(written.begin(), end - static_cast<std::ptrdiff_t>(first_file()), end);
  return written;
}

// On rank 0, which alone writes them down: of each unit file and rank, rank by rank; zeros where a
// rank has no slice. Nothing on the others.
std::vector<Digest> CheckpointSaver::gather_slice_digests(const JobDigests& own) const {
  const size_t num_files = unit_files_.size();
  const bool is_written_here = setup_.ranks.rank() == 0;
  std::vector<Digest> sent(num_files);
  std::vector<Digest> all(
      is_written_here ? num_files * static_cast<size_t>(setup_.ranks.world_size()) : 0);
  for (size_t i = 0; i < num_files; ++i) {
    if (!own[i].empty()) sent[i] = own[i].back();
  }
  gather_bytes_on_rank_0(setup_.ranks, std::as_bytes(std::span(sent)),
                         std::as_writable_bytes(std::span(all)));
  return all;
}

// The digests of all segments of the unit files, in the order of the files.
std::vector<Digest> CheckpointSaver::list_digests(const JobDigests& own,
                                                  const std::vector<Digest>& slices) const {
  std::vector<Digest> digests;
  for (size_t i = 0; i < unit_files_.size(); ++i) {
    const ShardLayout& shards = copy_.shards(unit_files_[i].unit);
    digests.push_back(own[i].front());
    for (int rank = 0; rank < setup_.ranks.world_size(); ++rank) {
      if (shards.owned(rank).is_empty()) break;
      digests.push_back(slices[static_cast<size_t>(rank) * unit_files_.size() + i]);
    }
  }
  return digests;
}

Manifest CheckpointSaver::make_manifest(const std::vector<Digest>& digests) const {
  Manifest manifest{step_, setup_.ranks.world_size(), std::string(to_string(model_dtype_)), {}, {}};
  for (int unit = 0; unit < std::ssize(copy_.saved()); ++unit) {
    const UnitLayout& layout = copy_.saved()[static_cast<size_t>(unit)];
    manifest.units.push_back(
        {layout.name(), layout.num_elements(), copy_.shards(unit).shard_size()});
  }
  manifest.data = setup_.data;
  const Digest* next = digests.data();
  for (const UnitFile& file : unit_files_) {
    const int64_t shard_size = copy_.shards(file.unit).shard_size();
    ManifestFile entry{file.path,
                       file.bytes(),
                       std::ssize(file.header),
                       file.bytes_of({0, shard_size}).size(),
                       {}};
    entry.sha256 = hash_of_digests(next, entry.num_segments());
    next += entry.num_segments();
    manifest.files.push_back(std::move(entry));
  }
  return manifest;
}

// All that is left to write; the manifest is the last.
void CheckpointSaver::finish_folder(const JobDigests& own,
                                    const std::vector<Digest>& slices) const {
  const std::vector<Digest> digests = list_digests(own, slices);
  Manifest manifest = make_manifest(digests);
  const auto add = [&manifest](const std::string& path, const std::string& text,
                               const Digest& digest) {
    manifest.files.push_back({path, std::ssize(text), std::ssize(text), 0, digest});
  };
  for (size_t i = 0; i < text_files_.size(); ++i) {
    add(text_files_[i].path, text_files_[i].text, own[unit_files_.size() + i].front());
  }
  const auto bytes = std::as_bytes(std::span(digests));
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const fs::path list = temporary() / Manifest::kDigestsName;
  add(Manifest::kDigestsName, text, write_parts({list, {{0, text, {}, DType::kU8}}}).front());
  write_parts({temporary() / Manifest::kFileName, {{0, to_json(manifest), {}, DType::kU8}}});
  std::set<fs::path> folders = {published_, "optimizer", ""};
  for (const TextFile& file : companions_) folders.insert(fs::path(file.path).parent_path());
  for (const fs::path& folder : folders) {
    sync_folder(temporary() / folder, FilePurpose::kCheckpoint);
  }
  set_aside_after(checkpoints_, step_ - 1);
  rename_folder(temporary(), checkpoints_ / name_);
  sync_folder(checkpoints_, FilePurpose::kCheckpoint);
  log_event(concat("checkpoint step=", step_, " path=", (checkpoints_ / name_).string(),
                   " bytes=", manifest.bytes(), " seconds=", watch_.seconds()));
}

void CheckpointSaver::tidy() {
  if (setup_.ranks.rank() == 0) start_removal();
}

std::optional<int64_t> CheckpointSaver::best_step() const {
  return best_of(checkpoints_, losses_, newest_);
}

// On a thread of its own, since training need not wait for it. The checkpoint stands already: what
// fails here is no reason to end the run.
void CheckpointSaver::start_removal() {
  settle();
  removal_ = std::async(std::launch::async, [folder = checkpoints_, keep = keep_, newest = newest_,
                                             losses = losses_] {
    try {
      const fs::path checkpoint = folder / checkpoint_name(newest);
      if (fs::exists(checkpoint)) {  // Else none is published, or it lies in another run.
        const std::optional<int64_t> best = best_of(folder, losses, newest);
        point_to(checkpoint, "latest");
        if (best) point_to(folder / checkpoint_name(*best), "best");
        remove_old_checkpoints(folder, keep, newest, best);
      }
      remove_leftovers(folder);
    } catch (const std::exception& error) {
      log_event(concat("checkpoint warning=", error.what()));
    }
  });
}

void CheckpointSaver::settle() {
  if (removal_.valid()) removal_.get();
}

void CheckpointSaver::abandon() {
  writer_.stop();
  setup_.ranks.barrier();  // Nobody writes into the folder any more.
  if (setup_.ranks.rank() != 0) return;
  try {
    remove_leftovers(checkpoints_);
  } catch (const CheckpointError& error) {
    log_event(concat("checkpoint warning=", error.what()));
  }
}

}  // namespace temper

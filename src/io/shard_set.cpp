// SPDX-License-Identifier: Apache-2.0
#include "io/shard_set.h"

#include <glob.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <regex>

#include "core/concat.h"
#include "core/error.h"
#include "io/file.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

/// What the name of a file says of it, as of `train-00003-of-00008.h5`.
struct Part {
  fs::path file;
  int64_t index = 0;
  int64_t count = 0;
  std::string before;    // "train-"
  std::string of_count;  // "-of-00008.h5"

  /// Matches the names of the whole set.
  std::string pattern() const { return (file.parent_path() / (before + '*' + of_count)).string(); }

  std::string name_of(int64_t part) const {
    const std::string digits = std::to_string(part);
    const size_t width = file.filename().string().size() - before.size() - of_count.size();
    return before + std::string(width - std::min(width, digits.size()), '0') + digits + of_count;
  }
};

// Nothing if the name does not say that the file is a part.
std::optional<Part> part_of(const fs::path& file) {
  static const std::regex kName("(.*-)([0-9]{1,9})(-of-([0-9]{1,9})(\\.[^.]*)?)");
  const std::string name = file.filename().string();
  std::smatch found;
  if (!std::regex_match(name, found, kName)) return std::nullopt;
  return Part{file, std::stoll(found[2]), std::stoll(found[4]), found[1], found[3]};
}

bool is_pattern(const fs::path& path) {
  return path.string().find_first_of("*?[") != std::string::npos && !is_there(path);
}

std::vector<fs::path> matches_of(const std::string& pattern) {
  ::glob_t found{};
  const int status = ::glob(pattern.c_str(), GLOB_ERR | GLOB_NOSORT, nullptr, &found);
  const int reason = errno;
  const std::unique_ptr<::glob_t, void (*)(::glob_t*)> release(&found, ::globfree);
  if (status == GLOB_NOMATCH || (status == GLOB_ABORTED && reason == ENOENT)) {
    throw DataError(concat("no token shard matches ", pattern),
                    "check the path, or make the shards with datasets/prepare.py");
  }
  if (status != 0) {
    throw DataError(concat("looking for ", pattern, " failed: ",
                           status == GLOB_NOSPACE ? "no memory" : std::strerror(reason)),
                    "make its folders readable for the user of the job");
  }
  std::vector<fs::path> files(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  std::sort(files.begin(), files.end(),
            [](const fs::path& a, const fs::path& b) { return a.string() < b.string(); });
  return files;
}

void require_one_set(const std::string& pattern, const std::vector<fs::path>& files,
                     const std::vector<Part>& parts) {
  const Part& first = parts.front();
  const auto refuse = [&](const fs::path& other) {
    throw DataError(concat(pattern, " matches files that do not belong together: ",
                           first.file.string(), " and ", other.string()),
                    concat("write a path that matches one set, such as ", first.pattern(),
                           ", or remove what an earlier preparation left"));
  };
  for (const Part& part : parts) {
    if (part.before != first.before || part.of_count != first.of_count) refuse(part.file);
  }
  for (const fs::path& file : files) {
    if (!part_of(file)) refuse(file);
  }
}

void require_each_once(const std::string& pattern, const std::vector<Part>& parts) {
  constexpr size_t kMostNamed = 3;
  const Part& first = parts.front();
  std::map<int64_t, fs::path> files;
  for (const Part& part : parts) {
    if (part.index >= part.count) {
      throw DataError(concat(part.file.string(), " is numbered beyond its set of ", part.count,
                             " parts, whose numbers begin with 0"),
                      "make the shards again with datasets/prepare.py");
    }
    const auto [other, is_new] = files.emplace(part.index, part.file);
    if (is_new) continue;
    throw DataError(concat(pattern, " matches part ", part.index, " of ", part.count,
                           " twice: ", other->second.string(), " and ", part.file.string()),
                    "keep one of them, or write a path that matches one");
  }
  std::string missing;
  size_t num_missing = 0;
  for (int64_t index = 0; index < first.count && num_missing <= kMostNamed; ++index) {
    if (files.contains(index)) continue;
    if (++num_missing <= kMostNamed)
      missing += (missing.empty() ? "" : ", ") + first.name_of(index);
  }
  if (num_missing == 0) return;
  const auto total = static_cast<size_t>(first.count) - files.size();
  if (total > kMostNamed) missing += concat(" and ", total - kMostNamed, " more");
  throw DataError(concat(pattern, " matches ", files.size(), " of a set of ", first.count,
                         " parts; missing: ", missing),
                  concat("prepare or copy the missing parts, and let the path match all of them: ",
                         first.pattern()));
}

// One part by its own name would be a corpus without most of its documents.
void require_not_one_of_many(const fs::path& file) {
  const std::optional<Part> part = part_of(file);
  if (!part || part->count <= 1) return;
  throw DataError(concat(file.string(), " is part ", part->index, " of a set of ", part->count,
                         ": the others would not be read"),
                  concat("write ", part->pattern(),
                         "; to use this part alone, give it another name (a link will do)"));
}

}  // namespace

bool is_named_as_part(const fs::path& file) { return part_of(file).has_value(); }

ShardSet find_shards(const fs::path& path) {
  if (!is_pattern(path)) {
    require_not_one_of_many(path);
    return {path.string(), {path}};
  }
  ShardSet set{path.string(), matches_of(path.string())};
  std::vector<Part> parts;
  for (const fs::path& file : set.files) {
    if (std::optional<Part> part = part_of(file)) parts.push_back(std::move(*part));
  }
  if (parts.empty()) return set;
  require_one_set(set.name, set.files, parts);
  require_each_once(set.name, parts);
  for (const Part& part : parts) set.files[static_cast<size_t>(part.index)] = part.file;
  return set;
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace temper {

/// The files of one corpus, in the order in which their documents follow each other.
struct ShardSet {
  std::string name;                          ///< The path or the pattern that it was found by.
  std::vector<std::filesystem::path> files;  ///< At least one.
};

/// Finds the files of a corpus by the path of one file, or by a pattern with *, ? or [...] such as
/// `shards/train-*-of-00008.h5`. Files named as parts of a set, `NAME-00003-of-00008.h5`, come in
/// the order of their numbers, and there is each part of one set, once; other files come in the
/// order of their paths' bytes. What is a file by its whole name is no pattern.
/// Throws: DataError if there is no file, or if parts are missing, twice, or of several sets.
ShardSet find_shards(const std::filesystem::path& path);

/// Whether a file's name says that it is a part of a set, as those of `find_shards`.
bool is_named_as_part(const std::filesystem::path& file);

/// Finds the files of a corpus for all ranks of a run. Collective where there are several ranks.
using FindShards = std::function<ShardSet(const std::filesystem::path& path)>;

}  // namespace temper

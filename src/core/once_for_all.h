// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace temper {

/// A file that several ranks read, and what tells its content from another's.
struct SharedFile {
  std::string path;
  std::string fingerprint;
};

/// Gives every rank of a run the numbers that `find` gets out of a file, where it is enough that
/// one of them reads it. What a rank gets is right for a file of this fingerprint.
///
/// Collective where there are several ranks. Throws: what `find` throws; LaunchError on all ranks
/// if the file of one has another fingerprint.
using OnceForAll = std::function<std::vector<int64_t>(
    const SharedFile& file, const std::function<std::vector<int64_t>()>& find)>;

/// OnceForAll for a process by itself.
inline std::vector<int64_t> find_alone(const SharedFile& /*file*/,
                                       const std::function<std::vector<int64_t>()>& find) {
  return find();
}

}  // namespace temper

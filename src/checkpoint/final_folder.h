// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

#include "comm/communicator.h"
#include "io/file.h"

namespace temper {

/// Publishes what others open of a checkpoint, its model or adapter, as a folder of its own, in
/// place of the one that may be there: at any instant the old one or the new one is whole.
///
/// Files of weights are hard links to those of the checkpoint, which cost neither time nor space
/// and stay when it is removed. Where the file system has no links, all ranks copy, and compare the
/// hashes on the way. The small files, which people like to edit, are copied; those of rank 0's
/// `texts` come in their place, or beside them.
///
/// Collective: all ranks; all throw or none does.
/// Throws: CheckpointError if the checkpoint was altered or `destination` cannot be written; the
///   folder before it is still there then.
void publish_final(const std::filesystem::path& checkpoint,
                   const std::filesystem::path& destination, Communicator& ranks,
                   const std::vector<TextFile>& texts = {});

/// Mends what a process that was killed in `publish_final` left: the folder is there again, and
/// nothing else is. Nobody may be publishing. What cannot be removed is logged.
void tidy_final(const std::filesystem::path& destination);

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace temper {

/// How a `temper` process ends. README.md lists these for users; Slurm shows them in `sacct`.
///
/// 1 and 2 are left to crashes of the C++ runtime and to shells, 126 and above to signals.
enum class ExitCode : int {
  kFinished = 0,
  kInternal = 10,       ///< A bug of ours: a broken invariant.
  kConfiguration = 11,  ///< The configuration or the command line.
  kData = 12,           ///< A token shard.
  kModel = 13,          ///< A model folder.
  kCheckpoint = 14,     ///< No checkpoint could be written, or none that is whole read.
  kComm = 15,           ///< A collective failed, or a peer was lost.
  kNonFinite = 16,      ///< Too many steps in a row had a loss or gradient that is not finite.
  kOutOfMemory = 17,    ///< The host or the device has no memory left.
  kRefused = 18,        ///< The launch itself is wrong; nothing was touched.
  kResume = 19,         ///< Stopped on request after saving: start the same command again.
};

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/mxfp4.h"
#include "io/safetensors_file.h"

namespace temper {

/// The tensors of a Hugging Face folder: `<stem>.safetensors`, or else all files that
/// `<stem>.safetensors.index.json` names.
///
/// An index is refused if it names a file outside the folder (links in the folder are followed,
/// wherever they lead), a file that is not there, or a tensor that its file does not have; and if a
/// file has a tensor that the index places elsewhere or does not name.
/// Throws: the Error of `purpose`.
class SafetensorsFolder {
 public:
  /// A tensor and the file that has it, or, of one in MXFP4, its codes.
  struct Place {
    const SafetensorsFile* file = nullptr;
    const SafetensorsTensor* tensor = nullptr;
    std::shared_ptr<const Mxfp4Matrices> packed = {};

    /// As SafetensorsFile::read_floats.
    void read_floats(Range elements, std::span<float> floats) const {
      return packed ? packed->read_floats(elements, floats)
                    : file->read_floats(*tensor, elements, floats);
    }
  };

  explicit SafetensorsFolder(const std::filesystem::path& folder, const std::string& stem = "model",
                             FilePurpose purpose = FilePurpose::kModel);

  /// All tensors by name.
  const std::map<std::string, Place>& tensors() const { return tensors_; }

  /// nullptr if there is no such tensor.
  const Place* find(const std::string& name) const;

  /// Puts a tensor in the place of `<name>_blocks` and `<name>_scales`, which have it in MXFP4: one
  /// of bfloat16, which holds all that MXFP4 does. Returns whether these are there.
  /// Throws: as Mxfp4Matrices.
  bool unpack(const std::string& name);

  const std::vector<std::unique_ptr<SafetensorsFile>>& files() const { return files_; }

 private:
  void open_index(const std::filesystem::path& path, FilePurpose purpose);
  void add_file(std::filesystem::path path, FilePurpose purpose);

  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, Place> tensors_;
  std::vector<std::unique_ptr<SafetensorsTensor>> unpacked_;  // As if a file had them.
};

/// `model.safetensors` for one of one file, else as `model-00001-of-00003.safetensors`; `index`
/// counts from 0.
std::string safetensors_file_name(const std::string& stem, int64_t index, int64_t num_files);

/// The text of `<stem>.safetensors.index.json`, as huggingface_hub writes it.
std::string safetensors_index(const std::map<std::string, std::string>& file_of_tensor,
                              int64_t total_bytes);

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/published_folder.h"

#include "checkpoint/companion_files.h"

namespace temper {

PublishedFolder published_model(const ModelFolder& source) {
  return {kModelFiles, source.stored_dtype(), [path = source.path()](DType dtype) {
            std::vector<TextFile> files = read_companion_files(path);
            for (TextFile& file : files) {
              if (file.path == "config.json") file.text = with_dtype(file.text, dtype);
            }
            return files;
          }};
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
// Text for calibration and scores, from local files: plain text, JSON lines, or a folder of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace trireme {

struct TextRecord {
  std::string text;
  // A plain text file: may be cut anywhere into many samples. A JSON line is one sample.
  bool is_whole_file = false;
};

struct TextDatasetOptions {
  // The key of a JSON line that holds the text; "": "text", else "article".
  std::string column;
  int64_t max_records = 0;  // 0: all
};

// `path`: a .jsonl, .ndjson or .json file of one object a line, any other file as plain text, or a
// folder, whose .txt, .text, .md, .jsonl, .ndjson and .json files are read in the order of their
// names. Records without text are skipped; a dataset without any is an error.
StatusOr<std::vector<TextRecord>> ReadTextDataset(const std::string& path,
                                                  const TextDatasetOptions& options);

}  // namespace trireme

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
  std::vector<std::string> targets;  // the summaries of a JSON line, where they are wanted
};

struct TextDatasetOptions {
  // The key of a JSON line that holds the text; "": "text", else "article".
  std::string column;
  // Each record must be a JSON line that also holds one or more summaries of its text.
  bool wants_targets = false;
  // Their key, a text or a list of them; "": "highlights", else "summary", else "summaries". With
  // targets the text is "article", else "document", else "text" by default.
  std::string target_column;
  std::string column_flag = "--calib_text_column";  // of the caller's command line, for errors
  int64_t max_records = 0;                          // 0: all
};

// `path`: a .jsonl, .ndjson or .json file of one object a line, any other file as plain text, or a
// folder, whose .txt, .text, .md, .jsonl, .ndjson and .json files are read in the order of their
// names. Records without text are skipped; a dataset without any is an error.
StatusOr<std::vector<TextRecord>> ReadTextDataset(const std::string& path,
                                                  const TextDatasetOptions& options);

}  // namespace trireme

// SPDX-License-Identifier: Apache-2.0
// The demo model as tests take it: an engine of it, and text it knows. Main thread only.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>

#include "convert/convert.h"
#include "formats/test_files.h"
#include "tests/source_path.h"
#include "trireme/builder.h"

namespace trireme::convert {

inline const std::string kDemoModel = SourcePath("models/demo");

// The sample stories of the demo model's page.
inline std::string DemoStories() {
  std::ifstream page(kDemoModel + "/README.md");
  std::string line;
  std::string stories;
  while (std::getline(page, line)) {
    if (!line.starts_with("> ")) continue;
    std::copy_if(line.begin() + 2, line.end(), std::back_inserter(stories),
                 [](char c) { return c != '*' && c != '\\'; });
    stories += '\n';
  }
  return stories;
}

// A new engine of the demo model in `dtype`.
inline std::string DemoEngine(const TestFolder& folder, const std::string& dtype) {
  ConvertOptions convert;
  convert.model_dir = kDemoModel;
  convert.output_dir = folder.File("checkpoint_" + dtype);
  convert.dtype = dtype;
  EXPECT_TRUE(Convert(convert, {}).ok());
  BuildOptions build;
  build.checkpoint_dir = convert.output_dir;
  build.output_dir = folder.File("engine_" + dtype);
  build.time_tactics = false;
  const Status status = BuildEngine(build, {});
  EXPECT_TRUE(status.ok()) << status.message();
  return build.output_dir;
}

}  // namespace trireme::convert

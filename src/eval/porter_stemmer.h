// SPDX-License-Identifier: Apache-2.0
// Porter's suffix stripping as the ROUGE tools use it: the 1980 algorithm with the changes that
// NLTK made (irregular forms, -ied, -y after a consonant, -fulli, -logi). Pure function.
#pragma once

#include <string>
#include <string_view>

namespace trireme::eval {

// `word`: lower-case letters and digits.
std::string PorterStem(std::string_view word);

}  // namespace trireme::eval

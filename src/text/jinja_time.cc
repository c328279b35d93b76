// SPDX-License-Identifier: Apache-2.0
// strftime_now: the local time in the C locale's words. Thread-safe.
#include <chrono>
#include <ctime>

#include "text/jinja_filters.h"

namespace trireme::jinja {
namespace {

struct Moment {
  std::tm local = {};
  int64_t microseconds = 0;
};

// "YYYY-MM-DDTHH:MM:SS".
Moment ParseMoment(const std::string& text) {
  Moment moment;
  std::tm& local = moment.local;
  if (strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &local) == nullptr) {
    Fail("'{}' is no time of the form YYYY-MM-DDTHH:MM:SS", text);
  }
  local.tm_isdst = -1;
  mktime(&local);  // fills the weekday and the day of the year
  return moment;
}

Moment Clock() {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  Moment moment;
  localtime_r(&seconds, &moment.local);
  const auto since = std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch());
  moment.microseconds = since.count() % 1'000'000;
  return moment;
}

}  // namespace

std::string FormatTime(Runtime& rt, std::string_view format) {
  const Moment moment = rt.now().empty() ? Clock() : ParseMoment(rt.now());
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 == format.size()) {
      out.push_back(format[i]);
      continue;
    }
    std::string directive = "%";
    if (format[i + 1] == '-' && i + 2 < format.size()) directive += format[++i];
    directive += format[++i];
    rt.CheckSize(out.size());
    if (directive == "%f") {
      out += fmt::format("{:06}", moment.microseconds);
    } else if (directive == "%z" || directive == "%Z") {
      continue;  // a time without a zone prints none
    } else {
      char text[128];
      const size_t size = strftime(text, sizeof(text), directive.c_str(), &moment.local);
      out.append(text, size);
    }
  }
  return out;
}

}  // namespace trireme::jinja

// SPDX-License-Identifier: Apache-2.0
// Status makers and macros. Thread-safe.
//
//   return InvalidArgument("tensor '{}' has {} bytes, expected {}", name, got, want);
#pragma once

#include <fmt/core.h>

#include <string>
#include <utility>

#include "trireme/status.h"

namespace trireme {

#define TRIREME_DEFINE_STATUS_MAKER(Name)                                                 \
  template <typename... Args>                                                             \
  Status Name(fmt::format_string<Args...> format, Args&&... args) {                       \
    return Status(StatusCode::k##Name, fmt::format(format, std::forward<Args>(args)...)); \
  }

TRIREME_DEFINE_STATUS_MAKER(Cancelled)
TRIREME_DEFINE_STATUS_MAKER(InvalidArgument)
TRIREME_DEFINE_STATUS_MAKER(DeadlineExceeded)
TRIREME_DEFINE_STATUS_MAKER(NotFound)
TRIREME_DEFINE_STATUS_MAKER(AlreadyExists)
TRIREME_DEFINE_STATUS_MAKER(ResourceExhausted)
TRIREME_DEFINE_STATUS_MAKER(FailedPrecondition)
TRIREME_DEFINE_STATUS_MAKER(Unimplemented)
TRIREME_DEFINE_STATUS_MAKER(Internal)
TRIREME_DEFINE_STATUS_MAKER(Unavailable)
#undef TRIREME_DEFINE_STATUS_MAKER

// An error naming `what` and the text of `error_number` (an errno value).
Status ErrnoStatus(int error_number, std::string_view what);

#define TRIREME_RETURN_IF_ERROR(expression)                                    \
  do {                                                                         \
    if (::trireme::Status trireme_status = (expression); !trireme_status.ok()) \
      return trireme_status;                                                   \
  } while (false)

#define TRIREME_CONCAT_INNER(a, b) a##b
#define TRIREME_CONCAT(a, b) TRIREME_CONCAT_INNER(a, b)
#define TRIREME_ASSIGN_OR_RETURN(target, expression) \
  TRIREME_ASSIGN_OR_RETURN_IMPL(TRIREME_CONCAT(trireme_or_, __LINE__), target, expression)
#define TRIREME_ASSIGN_OR_RETURN_IMPL(holder, target, expression) \
  auto holder = (expression);                                     \
  if (!holder.ok()) return std::move(holder).status();            \
  target = std::move(holder).value()

}  // namespace trireme

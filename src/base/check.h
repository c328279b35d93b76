// SPDX-License-Identifier: Apache-2.0
// TRIREME_CHECK: for bugs only; whatever a user, file or network can cause is a Status.
#pragma once

#include <fmt/core.h>

#include <string>

namespace trireme::internal {
[[noreturn]] void CheckFailed(const char* file, int line, const std::string& message);
}  // namespace trireme::internal

#define TRIREME_CHECK(condition)                                                        \
  do {                                                                                  \
    if (!(condition)) ::trireme::internal::CheckFailed(__FILE__, __LINE__, #condition); \
  } while (false)

// Prints both operands, which must be formattable by fmt.
#define TRIREME_CHECK_OP(op, a, b)                                                \
  do {                                                                            \
    const auto& trireme_a = (a);                                                  \
    const auto& trireme_b = (b);                                                  \
    if (!(trireme_a op trireme_b))                                                \
      ::trireme::internal::CheckFailed(                                           \
          __FILE__, __LINE__,                                                     \
          fmt::format("{} ({} vs {})", #a " " #op " " #b, trireme_a, trireme_b)); \
  } while (false)

#define TRIREME_CHECK_EQ(a, b) TRIREME_CHECK_OP(==, a, b)
#define TRIREME_CHECK_NE(a, b) TRIREME_CHECK_OP(!=, a, b)
#define TRIREME_CHECK_LT(a, b) TRIREME_CHECK_OP(<, a, b)
#define TRIREME_CHECK_LE(a, b) TRIREME_CHECK_OP(<=, a, b)
#define TRIREME_CHECK_GT(a, b) TRIREME_CHECK_OP(>, a, b)
#define TRIREME_CHECK_GE(a, b) TRIREME_CHECK_OP(>=, a, b)

#ifdef NDEBUG
#define TRIREME_DCHECK(condition) \
  do {                            \
    (void)sizeof(condition);      \
  } while (false)
#else
#define TRIREME_DCHECK(condition) TRIREME_CHECK(condition)
#endif

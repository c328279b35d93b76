// SPDX-License-Identifier: Apache-2.0
#include "trireme/request.h"

namespace trireme {

std::string FinishReasonName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNotFinished: return "NOT_FINISHED";
    case FinishReason::kEndId: return "END_ID";
    case FinishReason::kStopWords: return "STOP_WORDS";
    case FinishReason::kLength: return "LENGTH";
    case FinishReason::kTimedOut: return "TIMED_OUT";
    case FinishReason::kCancelled: return "CANCELLED";
  }
  return "UNKNOWN";
}

}  // namespace trireme

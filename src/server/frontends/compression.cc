// SPDX-License-Identifier: Apache-2.0
#include "server/frontends/compression.h"

#include <zlib.h>

#include <algorithm>
#include <cstdlib>

#include "base/check.h"
#include "base/status.h"

namespace trireme::server {
namespace {

constexpr int kGzipWindow = 15 + 16;  // zlib's way to ask for a gzip header
constexpr int kAnyWindow = 15 + 32;   // either header
constexpr size_t kStep = 64 << 10;

std::string_view Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

// The q of "gzip;q=0.5"; 1 when none is given.
double QualityOf(std::string_view parameters) {
  const size_t at = parameters.find("q=");
  if (at == std::string_view::npos) return 1;
  const std::string number(parameters.substr(at + 2, 8));
  return std::strtod(number.c_str(), nullptr);
}

}  // namespace

std::string_view EncodingName(Encoding encoding) {
  switch (encoding) {
    case Encoding::kIdentity: return "identity";
    case Encoding::kGzip: return "gzip";
    case Encoding::kDeflate: return "deflate";
  }
  return "";
}

StatusOr<Encoding> ParseEncoding(std::string_view name) {
  for (const Encoding encoding : {Encoding::kIdentity, Encoding::kGzip, Encoding::kDeflate}) {
    if (EncodingName(encoding) == name) return encoding;
  }
  return Unimplemented("Unsupported Content-Encoding '{}'; use gzip or deflate", name);
}

Encoding ChooseEncoding(std::string_view accept) {
  Encoding best = Encoding::kIdentity;
  double best_quality = 0;
  while (!accept.empty()) {
    const std::string_view item = accept.substr(0, accept.find(','));
    accept.remove_prefix(std::min(accept.size(), item.size() + 1));
    const size_t semicolon = std::min(item.find(';'), item.size());
    const StatusOr<Encoding> encoding = ParseEncoding(Trim(item.substr(0, semicolon)));
    const double quality = QualityOf(item.substr(semicolon));
    if (!encoding.ok() || quality <= best_quality) continue;
    best = *encoding;
    best_quality = quality;
  }
  return best;
}

StatusOr<std::string> Decompress(std::string_view data, Encoding encoding, int64_t max_bytes) {
  if (encoding == Encoding::kIdentity) return std::string(data);
  z_stream stream{};
  if (::inflateInit2(&stream, kAnyWindow) != Z_OK) return Internal("zlib failed to start");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  stream.avail_in = static_cast<uInt>(std::min<size_t>(data.size(), UINT32_MAX));
  std::string result;
  int code = Z_OK;
  while (code == Z_OK && std::cmp_less_equal(result.size(), max_bytes)) {
    const size_t before = result.size();
    result.resize(before + kStep);
    stream.next_out = reinterpret_cast<Bytef*>(result.data() + before);
    stream.avail_out = kStep;
    code = ::inflate(&stream, Z_NO_FLUSH);
    result.resize(before + kStep - stream.avail_out);
    if (code == Z_BUF_ERROR || (code == Z_OK && stream.avail_in == 0 && stream.avail_out > 0))
      break;
  }
  ::inflateEnd(&stream);
  if (std::cmp_greater(result.size(), max_bytes)) {
    return InvalidArgument("decompressed request exceeds the maximum allowed input size of {}",
                           max_bytes);
  }
  if (code != Z_STREAM_END) {
    return InvalidArgument("request body is not valid {} data", EncodingName(encoding));
  }
  return result;
}

std::string Compress(std::string_view data, Encoding encoding) {
  if (encoding == Encoding::kIdentity) return std::string(data);
  z_stream stream{};
  const int window = encoding == Encoding::kGzip ? kGzipWindow : MAX_WBITS;
  TRIREME_CHECK(::deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, window, 8,
                               Z_DEFAULT_STRATEGY) == Z_OK);
  std::string result(::deflateBound(&stream, data.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  stream.next_out = reinterpret_cast<Bytef*>(result.data());
  // zlib counts in 32 bits.
  size_t left_in = data.size();
  size_t left_out = result.size();
  int code = Z_OK;
  while (code == Z_OK) {
    const auto in = static_cast<uInt>(std::min<size_t>(left_in, 1u << 30));
    const auto out = static_cast<uInt>(std::min<size_t>(left_out, 1u << 30));
    stream.avail_in = in;
    stream.avail_out = out;
    code = ::deflate(&stream, in == left_in ? Z_FINISH : Z_NO_FLUSH);
    left_in -= in - stream.avail_in;
    left_out -= out - stream.avail_out;
  }
  ::deflateEnd(&stream);
  TRIREME_CHECK_EQ(code, Z_STREAM_END);
  result.resize(result.size() - left_out);
  return result;
}

}  // namespace trireme::server

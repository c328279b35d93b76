// SPDX-License-Identifier: Apache-2.0
// trireme tokenize: text to ids and back: one text, the lines of a file, or JSON lines for scripts.
// Main thread, with a pool for the lines that are there at once.
#include <fcntl.h>
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/status.h"
#include "base/thread_pool.h"
#include "cli.h"
#include "commands.h"
#include "trireme/chat_template.h"
#include "trireme/tokenizer.h"

namespace trireme::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kName = "tokenize";
constexpr size_t kReadBytes = 4u << 20;
constexpr size_t kMaxLineBytes = 256u << 20;

struct Flags {
  std::string tokenizer_dir;
  std::string chat_template;
  std::string chat_template_name = "default";
  std::string text;
  std::vector<int32_t> ids;
  std::string input_file;
  std::string output_file;
  std::string now;
  bool jsonl = false;
  bool decode = false;
  bool no_add_special_tokens = false;
  bool skip_special_tokens = false;
  int threads = 0;
};

std::string IdText(const std::vector<int32_t>& ids) {
  return fmt::format("{}", fmt::join(ids, " "));
}

// "1 2 3" or "[1, 2, 3]".
StatusOr<std::vector<int32_t>> ParseIds(std::string_view line) {
  std::vector<int32_t> ids;
  constexpr std::string_view kBetween = " \t\r,[]";
  for (size_t at = line.find_first_not_of(kBetween); at != line.npos;
       at = line.find_first_not_of(kBetween, at)) {
    const size_t end = std::min(line.find_first_of(kBetween, at), line.size());
    int32_t id = 0;
    const auto result = std::from_chars(line.data() + at, line.data() + end, id);
    if (result.ec != std::errc() || result.ptr != line.data() + end) {
      return InvalidArgument("'{}' is no token id", line.substr(at, end - at));
    }
    ids.push_back(id);
    at = end;
  }
  return ids;
}

// What becomes of one line. Thread-safe.
class Converter {
 public:
  Converter(const Flags& flags, const Tokenizer& tokenizer,
            const StatusOr<std::unique_ptr<ChatTemplate>>& chat_template)
      : flags_(flags), tokenizer_(tokenizer), chat_template_(chat_template) {}

  StatusOr<std::string> Convert(std::string_view line) const {
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (flags_.jsonl) return ConvertJson(line);
    if (!flags_.decode) {
      TRIREME_ASSIGN_OR_RETURN(const auto ids,
                               tokenizer_.Encode(line, !flags_.no_add_special_tokens));
      return IdText(ids);
    }
    TRIREME_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, ParseIds(line));
    TRIREME_ASSIGN_OR_RETURN(const std::string text,
                             tokenizer_.Decode(ids, flags_.skip_special_tokens));
    return Dump(Json(text));  // as a JSON string: a text may hold line ends
  }

 private:
  static std::string Dump(const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  }

  // Never fails: what is wrong with a line is its answer.
  std::string ConvertJson(std::string_view line) const {
    StatusOr<Json> answer = Answer(line);
    if (answer.ok()) return Dump(*answer);
    return Dump(Json{{"error", std::string(answer.status().message())}});
  }

  StatusOr<Json> Answer(std::string_view line) const {
    const Json request = Json::parse(line, nullptr, false);
    if (!request.is_object()) return InvalidArgument("the line is not a JSON object");
    const int kinds = static_cast<int>(request.contains("text")) +
                      static_cast<int>(request.contains("ids")) +
                      static_cast<int>(request.contains("messages"));
    if (kinds == 0) return InvalidArgument("the object has none of 'text', 'ids' and 'messages'");
    if (request.contains("messages")) return RenderAndEncode(line, request);
    if (kinds > 1) return InvalidArgument("the object has both 'text' and 'ids'");
    return request.contains("ids") ? DecodeIds(request) : EncodeText(request);
  }

  static StatusOr<bool> BoolField(const Json& request, const char* key, bool fallback) {
    const auto field = request.find(key);
    if (field == request.end()) return fallback;
    if (!field->is_boolean()) return InvalidArgument("'{}' must be true or false", key);
    return field->get<bool>();
  }

  StatusOr<Json> EncodeText(const Json& request) const {
    const Json& text = request["text"];
    if (!text.is_string()) return InvalidArgument("'text' must be a string");
    TRIREME_ASSIGN_OR_RETURN(const bool special, BoolField(request, "add_special_tokens",
                                                           !flags_.no_add_special_tokens));
    TRIREME_ASSIGN_OR_RETURN(auto ids,
                             tokenizer_.Encode(text.get_ref<const std::string&>(), special));
    return Json{{"ids", std::move(ids)}};
  }

  StatusOr<Json> DecodeIds(const Json& request) const {
    const Json& given = request["ids"];
    if (!given.is_array()) return InvalidArgument("'ids' must be a list of integers");
    std::vector<int32_t> ids;
    ids.reserve(given.size());
    for (const Json& id : given) {
      if (!id.is_number_integer()) return InvalidArgument("'ids' must be a list of integers");
      const bool huge = id.is_number_unsigned() && id.get<uint64_t>() > INT32_MAX;
      if (huge || id.get<int64_t>() < 0 || id.get<int64_t>() >= tokenizer_.vocab_size()) {
        return InvalidArgument("token id {} is not between 0 and {}", id.dump(),
                               tokenizer_.vocab_size() - 1);
      }
      ids.push_back(id.get<int32_t>());
    }
    TRIREME_ASSIGN_OR_RETURN(const bool skip,
                             BoolField(request, "skip_special_tokens", flags_.skip_special_tokens));
    TRIREME_ASSIGN_OR_RETURN(std::string text, tokenizer_.Decode(ids, skip));
    return Json{{"text", std::move(text)}};
  }

  // The line itself is the template's variables, so that no number or order in it is lost.
  StatusOr<Json> RenderAndEncode(std::string_view line, const Json& request) const {
    if (!chat_template_.ok()) return chat_template_.status();
    // A template writes its special tokens itself.
    TRIREME_ASSIGN_OR_RETURN(const bool special, BoolField(request, "add_special_tokens", false));
    TRIREME_ASSIGN_OR_RETURN(std::string prompt,
                             (*chat_template_)->Render(line, {.now = flags_.now}));
    TRIREME_ASSIGN_OR_RETURN(auto ids, tokenizer_.Encode(prompt, special));
    return Json{{"prompt", std::move(prompt)}, {"ids", std::move(ids)}};
  }

  const Flags& flags_;
  const Tokenizer& tokenizer_;
  const StatusOr<std::unique_ptr<ChatTemplate>>& chat_template_;
};

// Lines of a file descriptor, as many at once as have come: a script that waits for each answer gets
// it, a file is read in large pieces.
class LineReader {
 public:
  explicit LineReader(int fd) : fd_(fd) {}

  // The next complete lines, without their ends; none at the end of the input. The views stay valid
  // until the next call.
  StatusOr<std::vector<std::string_view>> Next() {
    std::vector<std::string_view> lines;
    buffer_.erase(0, taken_);
    taken_ = 0;
    while (lines.empty() && !at_end_) {
      const size_t known = buffer_.size();
      if (known > kMaxLineBytes) {
        return ResourceExhausted("a line of the input is longer than {} bytes", kMaxLineBytes);
      }
      TRIREME_RETURN_IF_ERROR(Read());
      Split(known, &lines);
    }
    return lines;
  }

 private:
  Status Read() {
    const size_t size = buffer_.size();
    buffer_.resize(size + kReadBytes);
    ssize_t count;
    do {
      count = read(fd_, buffer_.data() + size, kReadBytes);
    } while (count < 0 && errno == EINTR);
    buffer_.resize(size + static_cast<size_t>(std::max<ssize_t>(count, 0)));
    if (count < 0) return ErrnoStatus(errno, "reading the input");
    at_end_ = count == 0;
    return OkStatus();
  }

  // `known`: no line end before it.
  void Split(size_t known, std::vector<std::string_view>* lines) {
    const std::string_view all = buffer_;
    for (size_t end = all.find('\n', known); end != all.npos; end = all.find('\n', taken_)) {
      lines->push_back(all.substr(taken_, end - taken_));
      taken_ = end + 1;
    }
    if (at_end_ && taken_ < all.size()) {
      lines->push_back(all.substr(taken_));
      taken_ = all.size();
    }
  }

  const int fd_;
  std::string buffer_;
  size_t taken_ = 0;
  bool at_end_ = false;
};

// Converts lines until the input ends; answers come in the order of the lines.
Status ConvertLines(const Converter& converter, int threads, int input, std::FILE* output) {
  ThreadPool pool(threads, /*pin=*/false);
  LineReader reader(input);
  size_t line_number = 0;
  while (true) {
    TRIREME_ASSIGN_OR_RETURN(const std::vector<std::string_view> lines, reader.Next());
    if (lines.empty()) return OkStatus();
    std::vector<std::string> answers(lines.size());
    std::vector<Status> statuses(lines.size());
    pool.ParallelFor(static_cast<int64_t>(lines.size()), [&](int64_t i, int) {
      StatusOr<std::string> answer = converter.Convert(lines[static_cast<size_t>(i)]);
      if (answer.ok())
        answers[static_cast<size_t>(i)] = std::move(*answer) + '\n';
      else
        statuses[static_cast<size_t>(i)] = answer.status();
    });
    for (size_t i = 0; i < lines.size(); ++i) {
      ++line_number;
      if (!statuses[i].ok()) return statuses[i].WithContext(fmt::format("line {}", line_number));
      std::fwrite(answers[i].data(), 1, answers[i].size(), output);
    }
    if (std::fflush(output) != 0) return ErrnoStatus(errno, "writing the output");
  }
}

Status ConvertFile(const Flags& flags, const Converter& converter) {
  int input = STDIN_FILENO;
  if (!flags.input_file.empty()) {
    input = open(flags.input_file.c_str(), O_RDONLY | O_CLOEXEC);
    if (input < 0) return ErrnoStatus(errno, flags.input_file);
  }
  std::FILE* output = stdout;
  if (!flags.output_file.empty()) output = std::fopen(flags.output_file.c_str(), "we");
  Status status = output == nullptr ? ErrnoStatus(errno, flags.output_file)
                                    : ConvertLines(converter, flags.threads, input, output);
  if (output != nullptr && output != stdout && std::fclose(output) != 0 && status.ok()) {
    status = ErrnoStatus(errno, flags.output_file);
  }
  if (input != STDIN_FILENO) close(input);
  return status;
}

void AddFlags(CommandLine& line, Flags& flags) {
  line.Add("--tokenizer_dir", flags.tokenizer_dir, "model folder with the tokenizer's files");
  line.Add("--chat_template", flags.chat_template,
           "Jinja file instead of the folder's chat template");
  line.Add("--chat_template_name", flags.chat_template_name,
           "which of the folder's chat templates, where it names several");
  line.Add("--text", flags.text, "print the ids of this text");
  line.AddList("--ids", flags.ids, "print the text of these ids");
  line.AddSwitch(
      "--jsonl", flags.jsonl,
      "one JSON object a line in, one a line out: {\"text\": ...} -> {\"ids\"}, {\"ids\": "
      "[...]} -> {\"text\"}, {\"messages\": [...], ...} -> {\"prompt\", \"ids\"}, or "
      "{\"error\"}; a line may set add_special_tokens or skip_special_tokens");
  line.AddSwitch("--decode", flags.decode, "lines hold ids; each text is printed as a JSON string");
  line.Add("--input_file", flags.input_file, "file of lines instead of the standard input");
  line.Add("--output_file", flags.output_file,
           "file for the answers instead of the standard output");
  line.AddSwitch("--no_add_special_tokens", flags.no_add_special_tokens,
                 "texts become ids without the tokens the tokenizer adds around them");
  line.AddSwitch("--skip_special_tokens", flags.skip_special_tokens,
                 "leave special tokens out of decoded texts");
  line.Add("--threads", flags.threads,
           "threads for lines that are there at once; 0: all processors", kThreads);
  line.Add("--now", flags.now,
           "the local time a chat template sees, YYYY-MM-DDTHH:MM:SS; the clock's if not given");
}

Status CheckFlags(const CommandLine& line, const Flags& flags) {
  if (flags.tokenizer_dir.empty()) return InvalidArgument("--tokenizer_dir is missing");
  const bool one = line.Given("--text") || line.Given("--ids");
  if (line.Given("--text") && line.Given("--ids")) {
    return InvalidArgument("--text and --ids exclude each other");
  }
  if (one &&
      (flags.jsonl || flags.decode || !flags.input_file.empty() || !flags.output_file.empty())) {
    return InvalidArgument(
        "--text and --ids convert one text; they exclude --jsonl, --decode, "
        "--input_file and --output_file");
  }
  if (flags.jsonl && flags.decode)
    return InvalidArgument("--jsonl lines say themselves what to do");
  return OkStatus();
}

StatusOr<std::unique_ptr<ChatTemplate>> LoadTemplate(const Flags& flags) {
  if (flags.chat_template.empty()) {
    return ChatTemplate::Load(flags.tokenizer_dir, flags.chat_template_name);
  }
  return ChatTemplate::LoadFile(flags.chat_template, flags.tokenizer_dir);
}

Status ConvertAll(const CommandLine& line, const Flags& flags) {
  TRIREME_ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Load(flags.tokenizer_dir));
  if (line.Given("--text")) {
    TRIREME_ASSIGN_OR_RETURN(const auto ids,
                             tokenizer->Encode(flags.text, !flags.no_add_special_tokens));
    fmt::print("{}\n", IdText(ids));
    return OkStatus();
  }
  if (line.Given("--ids")) {
    TRIREME_ASSIGN_OR_RETURN(const std::string text,
                             tokenizer->Decode(flags.ids, flags.skip_special_tokens));
    fmt::print("{}\n", text);
    return OkStatus();
  }
  // A folder without a template is an error only of the lines that need one; a file given is not.
  const auto chat_template = LoadTemplate(flags);
  if (!chat_template.ok() && !flags.chat_template.empty()) return chat_template.status();
  return ConvertFile(flags, Converter(flags, *tokenizer, chat_template));
}

}  // namespace

int RunTokenize(std::span<const std::string> arguments) {
  Flags flags;
  CommandLine line(
      kName, "Text to token ids and back.",
      {"trireme tokenize --tokenizer_dir model --text \"Hello\"",
       "trireme tokenize --tokenizer_dir model --ids 9707 11 1879",
       "trireme tokenize --tokenizer_dir model --input_file text.txt --output_file ids.txt",
       "echo '{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], "
       "\"add_generation_prompt\": true}' | trireme tokenize --tokenizer_dir model --jsonl"});
  AddFlags(line, flags);
  if (const std::optional<int> code = line.Parse(arguments)) return *code;
  if (const Status status = CheckFlags(line, flags); !status.ok()) return FailUsage(kName, status);
  const Status status = ConvertAll(line, flags);
  return status.ok() ? kExitOk : Fail(kName, status);
}

}  // namespace trireme::cli

// SPDX-License-Identifier: Apache-2.0
#include "text/unicode.h"

#include <gtest/gtest.h>

#include <random>

#include "text/base64.h"
#include "text/byte_level.h"
#include "text/utf8.h"

namespace trireme {
namespace {

using unicode::Form;
using unicode::Normalize;

TEST(Utf8Test, FindsTheFirstInvalidByte) {
  EXPECT_EQ(utf8::FindInvalid("plain \xc3\xa9 \xf0\x9f\x98\x80"), std::string_view::npos);
  EXPECT_EQ(utf8::FindInvalid("abcdefgh\xff"), 8u);
  EXPECT_EQ(utf8::FindInvalid("a\xc0\x80"), 1u);          // overlong
  EXPECT_EQ(utf8::FindInvalid("a\xed\xa0\x80"), 1u);      // surrogate
  EXPECT_EQ(utf8::FindInvalid("a\xf4\x90\x80\x80"), 1u);  // above U+10FFFF
  EXPECT_EQ(utf8::FindInvalid("a\xe2\x82"), 1u);          // cut short
}

TEST(UnicodeTest, Normalizes) {
  EXPECT_EQ(Normalize("e\xcc\x81", Form::kNfc), "\xc3\xa9");
  EXPECT_EQ(Normalize("\xc3\xa9", Form::kNfd), "e\xcc\x81");
  // Marks come into canonical order before they compose: o, dot below, circumflex.
  EXPECT_EQ(Normalize("o\xcc\x82\xcc\xa3", Form::kNfc), "\xe1\xbb\x99");
  EXPECT_EQ(Normalize("\xe1\xbb\x99", Form::kNfd), "o\xcc\xa3\xcc\x82");
  EXPECT_EQ(Normalize("\xef\xac\x81\xe2\x85\xa7", Form::kNfkc), "fiVIII");
  EXPECT_EQ(Normalize("\xef\xac\x81", Form::kNfc), "\xef\xac\x81");
  // Hangul: three jamo are one syllable.
  EXPECT_EQ(Normalize("\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", Form::kNfc), "\xea\xb0\x81");
  EXPECT_EQ(Normalize("\xea\xb0\x81", Form::kNfd), "\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8");
  // A composition exclusion stays apart.
  EXPECT_EQ(Normalize("\xe0\xa5\x98", Form::kNfc), "\xe0\xa4\x95\xe0\xa4\xbc");
}

TEST(UnicodeTest, NfcOfTextsInPiecesOfEveryBlock) {
  std::mt19937 random(11);
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (size_t n = 1 + random() % 8; n > 0; --n) {
      uint32_t c = random() % 4 == 0 ? 0x300 + random() % 0x70 : random() % 0x3000;
      if (random() % 5 == 0) c = 0x1100 + random() % 0x200;
      utf8::Append(c, text);
    }
    const std::string nfc = Normalize(text, Form::kNfc), nfd = Normalize(text, Form::kNfd);
    EXPECT_EQ(Normalize(nfc, Form::kNfc), nfc);
    EXPECT_EQ(Normalize(nfd, Form::kNfc), nfc);
    EXPECT_EQ(Normalize(nfc, Form::kNfd), nfd);
    if (unicode::NfcPrefix(text) == std::string_view::npos) {
      EXPECT_EQ(nfc, text);
    }
  }
}

// What Unicode 15 and 16 brought: a letter, marks that change places, a pair of cases.
TEST(UnicodeTest, KnowsTheVersionOfTheReferenceLibraries) {
  EXPECT_EQ(unicode::CategoryOf(0x137ce), unicode::kLo);
  EXPECT_EQ(unicode::CategoryOf(0x11f0c), unicode::kLo);
  EXPECT_EQ(Normalize("\u0898\u0899", Form::kNfc), "\u0899\u0898");
  EXPECT_EQ(unicode::Lower("\ua7cb"), "\u0264");
}

TEST(UnicodeTest, LowersWithoutContext) {
  EXPECT_EQ(unicode::Lower("A\xc3\x89\xce\xa3"), "a\xc3\xa9\xcf\x83");
  EXPECT_EQ(unicode::Lower("\xc4\xb0"), "i\xcc\x87");
}

TEST(UnicodeTest, FindsGraphemeClusters) {
  EXPECT_EQ(unicode::GraphemeSize("ab"), 1u);
  EXPECT_EQ(unicode::GraphemeSize("e\xcc\x81x"), 3u);
  EXPECT_EQ(unicode::GraphemeSize("\r\nx"), 2u);
  EXPECT_EQ(unicode::GraphemeSize("\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa7z"),
            11u);  // joined by ZWJ
  EXPECT_EQ(unicode::GraphemeSize("\xf0\x9f\x87\xa9\xf0\x9f\x87\xaa\xf0\x9f\x87\xa9"),
            8u);  // one flag
}

TEST(ByteLevelTest, GivesEveryByteAPrintableCharacterAndBack) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string bytes(1, static_cast<char>(byte));
    std::string token, back;
    AppendByteLevel(bytes, token);
    ASSERT_TRUE(DecodeByteLevel(token, back));
    EXPECT_EQ(back, bytes);
  }
  std::string token, bytes = "kept";
  AppendByteLevel(" \n", token);
  EXPECT_EQ(token, "\xc4\xa0\xc4\x8a");
  EXPECT_FALSE(DecodeByteLevel("a b", bytes));
  EXPECT_EQ(bytes, "kept");
}

TEST(Base64Test, Decodes) {
  std::string bytes;
  EXPECT_TRUE(DecodeBase64("IQ==", bytes));
  EXPECT_TRUE(DecodeBase64("YWJj", bytes));
  EXPECT_EQ(bytes, "!abc");
  EXPECT_FALSE(DecodeBase64("a b=", bytes));
  EXPECT_FALSE(DecodeBase64("abcde", bytes));
}

}  // namespace
}  // namespace trireme

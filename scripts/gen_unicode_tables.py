#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes src/text/unicode_*_table.cc, in the Unicode version of Hugging Face's tokenizers: from the
packages unicodedata2==16.0.0 and, for scripts, the Alphabetic property and grapheme breaks,
regex==2024.11.6.

    scripts/gen_unicode_tables.py src/text
"""
import contextlib
import pathlib
import sys
import unicodedata as unicodedata1

import regex
import unicodedata2 as unicodedata

MAX = 0x110000
CATEGORIES = ["Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe",
              "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co"]
WHITE_SPACE = set([*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F,
                   0x205F, 0x3000])
HANGUL_SYLLABLES = range(0xAC00, 0xD7A4)
BREAKS = ["Other", "CR", "LF", "Control", "Extend", "ZWJ", "Regional_Indicator", "Prepend", "SpacingMark", "L",
          "V", "T", "LV", "LVT"]


def is_surrogate(c):
    return 0xD800 <= c < 0xE000


def full_decomposition(c, compat):
    form = "NFKD" if compat else "NFD"
    return [ord(x) for x in unicodedata.normalize(form, chr(c))]


def composition_pairs():
    pairs = {}
    for c in range(MAX):
        if is_surrogate(c) or c in HANGUL_SYLLABLES:
            continue
        d = unicodedata.decomposition(chr(c))
        if not d or d.startswith("<"):
            continue
        parts = [int(x, 16) for x in d.split()]
        # Composition exclusions are those that NFC does not put back together.
        if len(parts) == 2 and unicodedata.normalize("NFC", chr(c)) == chr(c):
            pairs[(parts[0], parts[1])] = c
    return pairs


def emit_array(name, ctype, values, per_line=24, form="{}"):
    print(f"const {ctype} {name}[{len(values)}] = {{")
    for i in range(0, len(values), per_line):
        print("    " + ",".join(form.format(v) for v in values[i:i + per_line]) + ",")
    print("};")


def emit_two_stage(name, values, shift):
    size = 1 << shift
    blocks, index = {}, []
    for start in range(0, len(values), size):
        index.append(blocks.setdefault(tuple(values[start:start + size]), len(blocks)))
    assert len(blocks) < 65536
    emit_array(f"{name}Index", "uint16_t", index, 48)
    emit_array(f"{name}Blocks", "uint8_t", [v for block in blocks for v in block], 64)


def ranges(values, default):
    out = []
    for c, v in enumerate(values):
        if v == default:
            continue
        if out and out[-1][2] == v and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c, v])
    return out


def emit_ranges(name, values, default):
    rows = ranges(values, default)
    print(f"const RangeValue {name}[{len(rows)}] = {{")
    for i in range(0, len(rows), 6):
        print("    " + ",".join("{0x%x,0x%x,%d}" % tuple(r) for r in rows[i:i + 6]) + ",")
    print("};")
    print(f"const size_t {name}Size = {len(rows)};")


def emit_mapping(name, mapping):
    """Sorted rows {code point, offset, length} into one pool of code points."""
    pool, rows = [], []
    for c in sorted(mapping):
        rows.append((c, len(pool), len(mapping[c])))
        pool.extend(mapping[c])
    print(f"const MappingRow {name}[{len(rows)}] = {{")
    for i in range(0, len(rows), 8):
        print("    " + ",".join("{0x%x,%d,%d}" % r for r in rows[i:i + 8]) + ",")
    print("};")
    print(f"const size_t {name}Size = {len(rows)};")
    emit_array(f"{name}Pool", "uint32_t", pool, 16, "0x{:x}")


def every_match(pattern):
    found = set()
    compiled = regex.compile(pattern)
    for start in range(0, MAX, 0x8000):
        text = "".join(chr(c) for c in range(start, start + 0x8000) if not is_surrogate(c))
        found.update(ord(m) for m in compiled.findall(text))
    return found


def scripts():
    names, values = ["Unknown"], [0] * MAX
    for c in range(MAX):
        if is_surrogate(c):
            continue
    known = ["Common", "Inherited", "Han", "Hiragana", "Katakana"]
    others = """Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali
      Bhaiksuki Bopomofo Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian Chakma Cham
      Cherokee Chorasmian Coptic Cuneiform Cypriot Cypro_Minoan Cyrillic Deseret Devanagari Dives_Akuru Dogra
      Duployan Egyptian_Hieroglyphs Elbasan Elymaic Ethiopic Georgian Glagolitic Gothic Grantha Greek Gujarati
      Gunjala_Gondi Gurmukhi Hangul Hanifi_Rohingya Hanunoo Hatran Hebrew Imperial_Aramaic Inscriptional_Pahlavi
      Inscriptional_Parthian Javanese Kaithi Kannada Kayah_Li Kharoshthi Khitan_Small_Script Khmer Khojki
      Khudawadi Lao Latin Lepcha Limbu Linear_A Linear_B Lisu Lycian Lydian Mahajani Makasar Malayalam Mandaic
      Manichaean Marchen Masaram_Gondi Medefaidrin Meetei_Mayek Mende_Kikakui Meroitic_Cursive
      Meroitic_Hieroglyphs Miao Modi Mongolian Mro Multani Myanmar Nabataean Nandinagari New_Tai_Lue Newa Nko
      Nushu Nyiakeng_Puachue_Hmong Ogham Ol_Chiki Old_Hungarian Old_Italic Old_North_Arabian Old_Permic
      Old_Persian Old_Sogdian Old_South_Arabian Old_Turkic Old_Uyghur Oriya Osage Osmanya Pahawh_Hmong Palmyrene
      Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang Runic Samaritan Saurashtra Sharada Shavian Siddham
      SignWriting Sinhala Sogdian Sora_Sompeng Soyombo Sundanese Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le
      Tai_Tham Tai_Viet Takri Tamil Tangsa Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta Toto Ugaritic Vai
      Vithkuqi Wancho Warang_Citi Yezidi Yi Zanabazar_Square""".split()
    for name in known + others:
        names.append(name)
        for c in every_match(r"\p{Script=%s}" % name):
            values[c] = len(names) - 1
    return values


def grapheme_breaks():
    values = [0] * MAX
    for i, name in enumerate(BREAKS[1:], 1):
        for c in every_match(r"\p{GCB=%s}" % name):
            values[c] = i
    for c in every_match(r"\p{Extended_Pictographic}"):
        if values[c] == 0:
            values[c] = len(BREAKS)
    return values


@contextlib.contextmanager
def table_file(name):
    """What is printed inside becomes the definitions of one source file."""
    path = pathlib.Path(sys.argv[1]) / f"unicode_{name}_table.cc"
    with open(path, "w", encoding="ascii") as file, contextlib.redirect_stdout(file):
        print("// SPDX-License-Identifier: Apache-2.0")
        print(f"// Unicode {unicodedata.unidata_version} properties; immutable. "
              "Written by scripts/gen_unicode_tables.py, do not edit.")
        print('#include "text/unicode_tables.h"\n')
        print("// clang-format off\nnamespace trireme::unicode {")
        yield
        print("}  // namespace trireme::unicode")


def lower_case(ch):
    """Python's own mapping; for letters newer than it, the one small letter that matches in any case."""
    if ch.lower() != ch or unicodedata.category(ch) != "Lu" or unicodedata1.category(ch) != "Cn":
        return ch.lower()
    same = regex.compile(regex.escape(ch), regex.IGNORECASE)
    small = [chr(c) for c in range(MAX) if unicodedata.category(chr(c)) == "Ll" and same.fullmatch(chr(c))]
    return small[0] if len(small) == 1 else ch


def main():
    if len(sys.argv) != 2:
        return "usage: gen_unicode_tables.py FOLDER"
    pairs = composition_pairs()
    seconds = {b for _, b in pairs} | set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))
    alphabetic = every_match(r"\p{Alphabetic}")
    classes, combining = [], []
    canonical, compat, lower = {}, {}, {}
    for c in range(MAX):
        ch = chr(c)
        category = unicodedata.category(ch)
        ccc = unicodedata.combining(ch)
        combining.append(ccc)
        value = CATEGORIES.index(category)
        if c in WHITE_SPACE:
            value |= 0x20
        if c in alphabetic or category in ("Mn", "Mc", "Me", "Nd", "Pc") or c in (0x200C, 0x200D):
            value |= 0x40
        if not is_surrogate(c):
            if ccc or c in seconds or unicodedata.normalize("NFC", ch) != ch:
                value |= 0x80
            if c not in HANGUL_SYLLABLES:
                nfd, nfkd = full_decomposition(c, False), full_decomposition(c, True)
                if nfd != [c]:
                    canonical[c] = nfd
                if nfkd != nfd:
                    compat[c] = nfkd
            if lower_case(ch) != ch:
                lower[c] = [ord(x) for x in lower_case(ch)]
        classes.append(value)
    with table_file("class"):
        emit_two_stage("kClass", classes, 7)
    with table_file("canonical"):
        emit_ranges("kCombining", combining, 0)
        emit_mapping("kCanonical", canonical)
    with table_file("compat"):
        emit_mapping("kCompat", compat)
    with table_file("case"):
        emit_mapping("kLower", lower)
    with table_file("composition"):
        rows = sorted(((a << 32) | b, c) for (a, b), c in pairs.items())
        print(f"const CompositionRow kComposition[{len(rows)}] = {{")
        for i in range(0, len(rows), 4):
            print("    " + ",".join("{0x%xull,0x%x}" % r for r in rows[i:i + 4]) + ",")
        print("};")
        print(f"const size_t kCompositionSize = {len(rows)};")
    with table_file("script"):
        emit_ranges("kScript", scripts(), 0)
    with table_file("grapheme"):
        emit_ranges("kGraphemeBreak", grapheme_breaks(), 0)


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/jinja_cases.json: small templates and what Jinja2 3.1 makes of them.

Run as: scripts/make_jinja_cases.py > tests/data/jinja_cases.json   (needs jinja2 3.1)
The environment is the one chat templates are published for. A case that fails has "error" (its
exception's name) instead of "expected"; messages are not compared, failing is.
"""
import copy
import json
import sys

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

VARIABLES = {
    "name": "World", "n": 7, "neg": -3, "f": 2.5, "t": True, "no": False, "nil": None, "empty": "",
    "s": "Hello, World", "uni": "Grüße, мир! Ωμέγα ß ŉ", "multi": "one\ntwo\n\nthree",
    "html": "<a href='x'>T & \"q\"</a>", "words": "the quick-brown (fox) jumps",
    "list": [3, 1, 2], "names": ["bob", "Alice", "carol", "Bob"], "nested": [[1, 2], [3, 4]],
    "d": {"b": 2, "a": 1, "C": 3}, "items": {"items": 1, "keys": [1, 2]},
    "users": [{"name": "bob", "age": 30, "tags": ["x"]}, {"name": "Ann", "age": 25},
              {"name": "cy", "age": 30, "address": {"city": "Rome"}}],
    "messages": [{"role": "system", "content": "be nice"}, {"role": "user", "content": " hi "},
                 {"role": "assistant", "content": "yo"}, {"role": "user", "content": "bye"}],
    "big": 18446744073709551616, "small": 1e-7, "large": 1e22, "third": 1 / 3, "spaces": "  a  b  ",
    "tree": [{"v": 1, "c": [{"v": 2, "c": []}, {"v": 3, "c": [{"v": 4, "c": []}]}]}],
    "schema": {"type": "object", "properties": {"x": {"type": "integer", "description": "é \"q\" \\ \n"}}},
}

EXPRESSIONS = r"""
1 + 2 * 3
(1 + 2) * 3
7 / 2
7 // 2
-7 // 2
7 % 3
-7 % 3
7 % -3
2 ** 3 ** 2
2 ** -1
-2 ** 2
7.5 // 2
-7.5 % 2
1e3
1.0
1_000
0x1F
0o17
0b101
1.5e-7
123456789012345680.0
0.1 + 0.2
1e16
1e15
1e22
large
small
third
5 / 1
10 ** 15
2 ** 62
true and false
true or x.y
1 and 2
0 or 'a'
not 1
not not 1
1 < 2 < 3
1 < 3 < 2
1 == 1.0
true == 1
'a' < 'b'
'1' == 1
[1, 2] == [1, 2]
(1, 2) == [1, 2]
{'a': 1} == {'a': 1.0}
none == false
undefined_thing == other_undefined
1 in [1, 2]
'ell' in s
'x' not in s
'a' in d
2 in d
1 in (1, 2)
'a' in undefined_thing
1 is number
'a' ~ 1 ~ none ~ true ~ 1.5
[1, 'a', none, true, 1.5]
(1,)
()
(1, 2)
[]
{}
{'a': 1, 'b': [1, 2], 3: none}
'it\'s'
"it's"
['it\'s', "q\"q", 'both \' "']
['tab\t', 'nl\n', 'nul\x00', 'é', '\u00e9', '\x7f', '\u200b', '😀']
'a' 'b'
'\x41\u0042\101'
'\q'
s[0]
s[-1]
s[99]
s[1:4]
s[::-1]
s[::2]
s[-3:]
s[:-3]
s[10:2]
s[5:2:-1]
uni[0:5]
uni[::-1]
uni[4]
list[0]
list[-1]
list[5]
list[1:]
list[::-1]
list[:2]
list[10:]
list[::2]
(1,2,3)[1:]
range(5)[1:3] | list
d['a']
d.a
d['zz']
d.zz
d.zz.y
nil.x
nil['x']
n.x
n[0]
undefined_thing
undefined_thing.x
undefined_thing['x']
undefined_thing + 1
undefined_thing ~ 'x'
-undefined_thing
undefined_thing()
undefined_thing | length
undefined_thing | list
undefined_thing | first
undefined_thing | last
undefined_thing | default('d')
undefined_thing | upper
undefined_thing | int
undefined_thing | join(',')
undefined_thing | trim
undefined_thing | tojson
undefined_thing[:1]
undefined_thing < 1
items.items
items['items']
items.keys() | list
items.values() | list
items.get('keys')
items.get('zz', 'def')
items.get('zz')
d.items()
d.keys()
d.values()
d.items() | list
d | list
d | length
d | first
d | last
d | items | list
d.a is defined
d.zz is defined
d.zz is not defined
n is odd
n is even
n is divisibleby 7
n is divisibleby(2)
n is eq 7
n is ne(3)
n is gt 3
n is lessthan 3
n is in [7, 8]
n is not in [7, 8]
n is integer
f is float
t is boolean
t is integer
t is number
t is true
no is false
nil is none
s is string
d is mapping
d is sequence
list is sequence
s is sequence
n is sequence
list is iterable
n is iterable
s is iterable
nil is iterable
undefined_thing is iterable
range is callable
s is callable
'abc' is lower
'ABC' is upper
'Abc' is lower
n is sameas 7
nil is sameas none
'upper' is filter
'nope' is filter
'odd' is test
s is escaped
(s | e) is escaped
1 if t else 2
1 if no else 2
1 if no
'a' if no else 'b' if no else 'c'
(1 if no) is defined
s | upper
s | lower
words | title
words | capitalize
uni | upper
uni | lower
uni | title
uni | capitalize
uni.title()
uni.swapcase()
uni.casefold()
'ΑΣ ΣΑΣ' | lower
'ǆ' | title
'ﬁx' | upper
'İ' | lower | length
s | replace('l', 'L')
s | replace('l', 'L', 1)
'abc' | replace('', '-')
'abc' | replace('', '-', 2)
5 | replace(5, 6)
s | length
uni | length
nil | length
5 | length
list | length
s | first
s | last
'' | first
list | first
[] | first
list | last
list | sort
list | sort(reverse=true)
names | sort
names | sort(case_sensitive=true)
users | sort(attribute='age') | map(attribute='name') | list
users | sort(attribute='age,name') | map(attribute='name') | list
users | sort(attribute='age', reverse=true) | map(attribute='name') | list
[1, 'a'] | sort
names | unique | list
names | unique(case_sensitive=true) | list
[1, 1.0, true, 2] | unique | list
list | min
list | max
names | min
[] | max
users | max(attribute='age')
list | sum
users | sum(attribute='age')
[0.1, 0.2] | sum
['a'] | sum
list | reverse | list
s | reverse
d | reverse | list
list | join
list | join(', ')
names | join(', ')
users | join(', ', attribute='name')
[none, true, 1.5] | join('|')
s | list
nested | map('sum') | list
nested | map('first') | join
users | map(attribute='address.city') | list
users | map(attribute='address.city', default='?') | list
users | map(attribute='tags.0', default='-') | list
names | map('upper') | join(' ')
names | map('replace', 'b', 'B') | list
names | map('nofilter') | list
users | selectattr('age', 'eq', 30) | map(attribute='name') | list
users | selectattr('tags') | map(attribute='name') | list
users | rejectattr('age', 'gt', 26) | map(attribute='name') | list
users | selectattr('tags', 'defined') | list | length
list | select('odd') | list
list | reject('odd') | list
[0, 1, '', 'a', none] | select | list
list | select('gt', 1) | list
list | select('in', [1, 2]) | list
users | groupby('age')
users | groupby('age') | map('first') | list
names | groupby('0') | length
d | dictsort
d | dictsort(case_sensitive=true)
d | dictsort(by='value', reverse=true)
list | batch(2) | list
list | batch(2, 'x') | list
range(7) | slice(3) | list
range(7) | slice(3, 'x') | list
list | map('string') | list
5 | string
'5' | int
'x' | int
'x' | int(3)
'0x1F' | int(base=16)
'ff' | int(0, 16)
'3.7' | int
' 42 ' | int
3.99 | int
-3.99 | int
true | int
none | int
'1_000' | int
'3.5' | float
'x' | float
'x' | float(1.5)
'inf' | float
'1e5' | float
3 | float
2.5 | round
3.5 | round
2.675 | round(2)
-2.5 | round
1234.5678 | round(-2)
7 | round
1234 | round(-2)
2.1 | round(method='ceil')
2.9 | round(0, 'floor')
2.123 | round(2, 'ceil')
-5 | abs
-5.5 | abs
'x' | abs
d | tojson
list | tojson
schema | tojson
schema | tojson(indent=2)
schema | tojson(indent='--')
schema | tojson(indent=0)
uni | tojson
uni | tojson(ensure_ascii=true)
'😀' | tojson(ensure_ascii=true)
d | tojson(sort_keys=true)
d | tojson(separators=(',', ':'))
[] | tojson(indent=2)
{} | tojson
[1.0, 1e22, none, true, 1e-7] | tojson
(1, 2) | tojson
{1: 2, none: 3, true: 4, 1.5: 5} | tojson
html | tojson
range(3) | tojson
nil | tojson
'\x01\x1f\x7f' | tojson
big | tojson
big
users | tojson
multi | indent
multi | indent(2)
multi | indent(2, true)
multi | indent(2, blank=true)
multi | indent('> ', first=true)
'' | indent
5 | indent
html | e
html | escape | e
html | forceescape
html | safe
html | striptags
'<!-- c --> a  &amp; b &#65; &lt;' | striptags
(html | e) ~ '<'
(html | e) + '<'
'<' + (html | e)
spaces | trim
'xxaxx' | trim('x')
spaces | wordcount
words | wordcount
'foo bar baz qux' | truncate(9)
'foo bar baz qux' | truncate(9, true)
'foo bar baz qux' | truncate(11)
'foo bar baz qux' | truncate(11, false, '>>', 0)
'foo' | center(9)
'%s is %d' | format('a', 5)
'%(x)s' | format(x=3)
'%05.2f|%-6s|%+d|%x|%o|%e|%g|%%|%c|%r' % (3.14159, 'ab', 5, 255, 8, 12345.678, 0.0001, 'z', 'q')
'%s' % 5
'%s %s' % (1,)
'%s' % (1, 2)
'%d' % 'x'
'%(a)s-%(b)d' % d
'%s' % d
'%s' % list
'%5s|%-5s|' % ('a', 'b')
'%.2s' % 'abc'
'%i' % 3.9
'%#x' % 255
'%*d' % (5, 3)
'{} {}'.format(1, 2)
'{0}{1}{0}'.format('a', 'b')
'{a} {b[0]} {c.name}'.format(a=1, b=[2], c=users[0])
'{:>5}|{:<5}|{:^5}|{:*^7}'.format('a', 'b', 'c', 'd')
'{:05d} {:+} {:x} {:#x} {:,} {:_}'.format(42, 5, 255, 255, 1234567, 1234567)
'{:.2f} {:8.3f} {:e} {:g} {:%} {:.1%}'.format(3.14159, 2.5, 1234.5, 0.00001, 0.5, 0.256)
'{!r} {!s}'.format('a', 'b')
'{{}}'.format()
'{'.format()
'{}'.format()
'{:{w}}|'.format('a', w=4)
'{:d}'.format('a')
'{:.3}'.format('abcdef')
'{:.3}'.format(3.14159)
'{:}'.format(none)
s.upper()
s.lower().title()
s.split(', ')
s.split()
spaces.split()
spaces.split(' ')
'a b c d'.split(none, 2)
'a,b,c,d'.split(',', 1)
'a,b,c,d'.rsplit(',', 1)
' a b c '.rsplit(none, 1)
'a'.split('')
multi.splitlines()
multi.splitlines(true)
'a-b-c'.partition('-')
'a-b-c'.rpartition('-')
'abc'.partition('x')
'abc'.rpartition('x')
spaces.strip()
'xxaxx'.strip('x')
'xxaxx'.lstrip('x')
'xxaxx'.rstrip('x')
'abcba'.strip('ab')
'x'.strip('')
s.startswith('Hell')
s.startswith(('x', 'Hell'))
s.startswith('ello', 1)
s.endswith('ld')
s.endswith('lo', 0, 5)
s.find('o')
s.find('o', 5)
s.find('zz')
s.rfind('o')
s.index('W')
s.index('zz')
uni.find('м')
s.count('l')
s.count('')
s.count('l', 4)
s.replace('l', 'L', 2)
'-'.join(names)
'-'.join([1])
'-'.join('abc')
'abc'.center(8, '*')
'abcd'.center(7, '*')
'abc'.ljust(5, '.')
'abc'.rjust(5)
'-42'.zfill(6)
'a\tb'.expandtabs(4)
'abc'.removeprefix('a').removesuffix('c')
'abc'.isalpha()
'ab1'.isalnum()
'12'.isdigit()
'½'.isnumeric()
'½'.isdigit()
' '.isspace()
'Ab Cd'.istitle()
'AB'.isupper()
'ab'.islower()
''.isalpha()
'é'.isascii()
'a_1'.isidentifier()
'1a'.isidentifier()
list.index(2)
list.count(1)
list.index(99)
list.append(4)
d.update({'x': 1})
d.pop('a')
[].append
d.copy()
(1, 2, 2).count(2)
range(3)
range(3) | list
range(1, 10, 3) | list
range(5, 0, -2) | list
range(0)
range(3) | length
range(1, 2, 0)
range(1000000)
dict(a=1, b=2)
dict([['a', 1]])
dict(d, z=9)
namespace(a=1).a
namespace().a
cycler('a', 'b').next()
list + [4]
(1,) + (2,)
'ab' * 3
3 * 'ab'
[0] * 3
'a' + 1
1 + 'a'
[1] + (2,)
'a' - 'b'
none + 1
1 / 0
1 // 0
1 % 0
[1, 2] < [1, 3]
'a' < 1
none < 1
+5
-'a'
+true
true + true
raise_exception('boom')
nofunction()
s.nomethod()
s | attr('upper')
d | attr('a')
d | urlencode
'a b/c&d?é' | urlencode
{'a': 'x<', 'b': none} | xmlattr
1024 | filesizeformat
1500000 | filesizeformat
1500000 | filesizeformat(true)
1 | filesizeformat
list | first | string | length
(list | map('string')) is sequence
(list | map('string')) | length
list | map('string') | last
list | map('string') | first
[[1, [2, [3]]]]
[1, 2,]
{'a': 1,}
s.split(',')[0] | upper
messages[-1].content | trim
messages[0]['role'] == 'system' and messages[0]['content']
messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | map('trim') | join('|')
messages | map(attribute='role') | unique | list
(messages | length) - 1
messages | length > 3
not messages | length
messages[1:] | length
messages[1:][0].role
messages[99].role
'a' if messages[0].x is undefined else 'b'
d.get('a') + 1
n | string + 'x'
-n | abs
n is defined and n > 5
'x' is string and 'y'
s is string is true
[s, n] | map('string') | join
1.5 | string
true | string
none | string
list | string
'a' == 'a' == 'a'
1 != 2 != 3
[1, 2, 3][1]
{'a': {'b': 1}}.a.b
'abc'[1]
('a', 'b')[0]
(s)
((1))
[x for x in list]
lambda x: x
s.__class__
d.__class__
list | select('nosuchtest') | list
5 is nosuchtest
5 | nosuchfilter
'a'.upper
''.join
users[0].name ~ users[1]['name']
users.0.name
3 | d(4)
'' | d('x')
'' | d('x', true)
none | default('x')
no | default('x', boolean=true)
list | d
n.bit_length
'a\r\nb'
'😀é'[0]
'é' * 2
'{:é^5}'.format('a')
'Straße' | upper
'Éa' | lower
'ЁЖ' | lower | upper | title
'o\'neil isn\'t' | title
'o\'neil isn\'t'.title()
'hello wORLD'.capitalize()
loop
loop.index
caller()
undefined_thing is sequence
[] | truncate(6)
undefined_thing | truncate(6)
users | truncate(1, leeway=0)
'' % list
'' % undefined_thing
'x' % d
large | int
-1e30 | int
'99999999999999999999' | int
'-0099999999999999999999' | int
users | groupby('zz')
[none, none] | sort
[{'a': none}, {'a': none}] | groupby('a')
{'a': none, 'b': none} | dictsort(by='value')
""".strip("\n").split("\n")

TEMPLATES = [
    # White space control.
    "a {%- if true -%} b {%- endif -%} c", "a\n{% if true %}\nb\n{% endif %}\nc\n",
    "  {% if true %}\n  x\n  {% endif %}\ny", "  {{ 1 }}\n  {{- 2 -}}\n  {{ 3 }}\n",
    "{# c #}\na\n  {# c #}\nb {#- c -#} d", "  {%+ if true %}x{% endif %}", "{% if true +%}\nx{% endif %}",
    "a\n\n", "a\n", "\n", "", "\n\n{{ 1 }}\n\n", "{{ 1 }}\n{{ 2 }}", "{% set x = 1 %}\n{{ x }}", "a\r\nb\r\n{{ 1 }}\r\n",
    "{% raw %}{{ x }}{% y %}{% endraw %}", "{% raw %}\n a \n{% endraw %}\nb", "a {%- raw -%} b {%- endraw -%} c",
    "{%- raw %} {{ {% endraw -%} x", "text {{ '}}' }} {{ '%}' }}", "{{ {'a': {'b': 1}} }}", "{{ {'a':1}['a']}}",
    "x\n\t {%- if t %} y\n{%- endif %}", "  a {% if t %} b {% endif %} c\n    {% if t %}  d\n{% endif %}",
    "{{ 'a\nb' }}", "{{- 'x' }} y {{ 'z' -}}  \n w", "{#-#}a{#--#}b", " {# x #} a", "{% if t %}\n\n\na{% endif %}",
    "{{\n1\n+\n2\n}}", "{%\nset x\n=\n3\n%}{{ x }}", "a{# unclosed", "{{ 1", "{% if t %}", "{{ 'abc }}", "{% raw %}x",
    "{{ }}", "{{ 1 2 }}", "{{ (1 }}", "{{ 1) }}", "{{ [1, 2) }}", "{% endif %}", "{% nosuch %}", "{{ a b }}", "{{ 1 + }}",
    "{{ $ }}", "{% if %}a{% endif %}", "{% for %}{% endfor %}", "{% for x in %}{% endfor %}", "{% set = 1 %}",
    "{% set true = 1 %}", "{% set a.b = 1 %}", "{% set 'a' = 1 %}", "{% macro %}{% endmacro %}", "{% else %}",
    "{% if t %}a{% else %}b{% else %}c{% endif %}", "{{ x is }}", "{{ x | }}", "{{ x. }}", "{{ x[] }}", "{{ f(a=1, 2) }}",
    # if, for.
    "{% if n > 5 %}a{% elif n > 3 %}b{% else %}c{% endif %}", "{% if no %}a{% elif n > 3 %}b{% else %}c{% endif %}",
    "{% if undefined_thing %}a{% else %}b{% endif %}", "{% if not list %}a{% endif %}b", "{% if list: %}x{% endif %}",
    "{% for x in list %}{{ x }}{{ ',' if not loop.last }}{% endfor %}",
    "{% for x in list %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}",
    "{% for x in [] %}a{% else %}none{% endfor %}", "{% for x in undefined_thing %}a{% else %}none{% endfor %}",
    "{% for x in list if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% else %}e{% endfor %}",
    "{% for x in list if x > 9 %}{{ x }}{% else %}e{% endfor %}", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d | dictsort %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}",
    "{% for a, b in nested %}{{ a }}-{{ b }} {% endfor %}", "{% for (a, b) in nested %}{{ a }}{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in [[1]] %}{% endfor %}",
    "{% for a, b in [[1, 2, 3]] %}{% endfor %}", "{% for a, b in [1] %}{% endfor %}", "{% for x in 5 %}{% endfor %}",
    "{% for x in none %}{% endfor %}", "{% for c in 'añb' %}[{{ c }}]{% endfor %}", "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}",
    "{% for x in range(3) %}{% for y in range(2) %}{{ loop.index }}{% endfor %}{{ loop.index }} {% endfor %}",
    "{% for x in range(3) %}{% set outer = loop %}{% for y in range(2) %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "{% for x in list %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}",
    "{% for x in list %}{{ loop.cycle('odd', 'even') }} {% endfor %}", "{% for x in [1,1,2,2,1] %}{% if loop.changed(x) %}{{ x }}{% endif %}{% endfor %}",
    "{% for x in range(10) %}{% if x == 3 %}{% continue %}{% endif %}{% if x > 5 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in list %}{% for y in list %}{% break %}{% endfor %}{{ x }}{% endfor %}", "{% break %}", "{% for x in list %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}",
    "{% for x in tree recursive %}{{ x.v }}{% if x.c %}({{ loop(x.c) }}){% endif %}{% endfor %}",
    "{% for x in tree recursive %}{{ loop.depth }}{{ loop.depth0 }}{{ loop(x.c) }}{% endfor %}", "{% for x in list %}{{ loop(x) }}{% endfor %}",
    "{% for x in list %}{% endfor %}{{ x }}", "{% for x in list %}{{ x }}{% endfor %}{{ loop }}", "{% for x in list | map('string') %}{{ x }}{{ loop.length }}{% endfor %}",
    "{% for x in list | map('string') %}{{ x }}{% if not loop.last %},{% endif %}{% endfor %}",
    "{% set ns = namespace(seen=0) %}{% for x in [1,2,3] if x > ns.seen %}{% set ns.seen = 2 %}{{ x }}{% endfor %}",
    "{% for x in list %}{% set y = x %}{% endfor %}{{ y }}", "{% set y = 0 %}{% for x in list %}{% set y = y + x %}{{ y }} {% endfor %}{{ y }}",
    "{% for i in [1, 2] %}{% if i == 1 %}{% set z = 5 %}{% endif %}[{{ z }}]{% endfor %}", "{% for name in list %}{{ name }}{% endfor %}{{ name }}",
    "{% for x in range(3) %}{{ loop }}{% endfor %}" if False else "{% for x in range(2) %}{{ loop.nosuch }}{% endfor %}",
    # set, with, namespace.
    "{% set x = 1 %}{{ x }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = [1] %}", "{% set x = 1, 2 %}{{ x }}", "{% set (a, b) = nested %}{{ b }}",
    "{% set x %}a{{ n }}b{% endset %}[{{ x }}]", "{% set x | upper %}abc{% endset %}{{ x }}", "{% set x | trim | replace('b', '7') %} abc {% endset %}{{ x }}",
    "{% if t %}{% set x = 1 %}{% endif %}{{ x }}", "{% set x = 1 %}{% if t %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns.b }}", "{% set ns = namespace(c=0) %}{% for x in list %}{% set ns.c = ns.c + x %}{% endfor %}{{ ns.c }}",
    "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}", "{% set ns = namespace(a=1) %}{{ ns['a'] }}{{ ns.zz is defined }}", "{% set d.a = 5 %}", "{% set ns = namespace(a=1, b=2) %}{% set ns.a, ns.b = ns.b, ns.a %}{{ ns.a }}{{ ns.b }}",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q }}", "{% set a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}",
    "{% set name = 'x' %}{{ name }}", "{{ name }}{% set name = 'x' %}{{ name }}", "{% set range = 5 %}{{ range }}",
    # Macros, calls, filters, blocks.
    "{% macro m(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(b=5, a=4) }}", "{% macro m(a) %}[{{ a }}]{% endmacro %}{{ m() }}",
    "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{% endmacro %}{{ m(b=2) }}", "{% macro m(a) %}{% endmacro %}{{ m(1, a=2) }}",
    "{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(3) }}", "{% macro m(a=1, b) %}{% endmacro %}", "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}",
    "{% macro m() %}{{ name }}{{ x }}{% endmacro %}{% set x = 1 %}{{ m() }}{% set x = 2 %}{{ m() }}", "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}body{{ n }}{% endcall %}", "{% macro m() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b) m() %}{{ a }}+{{ b }}{% endcall %}",
    "{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}", "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}", "{% macro m() %}{% if caller %}c{% else %}n{% endif %}{% endmacro %}{{ m() }}{% call m() %}{% endcall %}",
    "{% call n %}{% endcall %}", "{% macro m(x) %}{{ x }}{% endmacro %}{{ m.name }}{{ m.arguments }}{{ m.catch_kwargs }}", "{% macro m() %}  a  {% endmacro %}[{{ m() | trim }}]", "{% for x in list %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}",
    "{% macro m() %}{% set q = 5 %}{% endmacro %}{{ m() }}{{ q }}", "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}", "{{ m() }}{% macro m() %}x{% endmacro %}",
    "{% macro m(items) %}{% for i in items %}{{ loop.index }}{% endfor %}{% endmacro %}{% for x in nested %}{{ m(x) }}{% endfor %}", "{% macro m(a, b='x') -%}\n  {{ a }}\n{%- endmacro -%}\n[{{ m(1) }}]",
    "{% filter upper %}abc{{ name }}{% endfilter %}", "{% filter replace('a', 'b') | upper %}aab{% endfilter %}", "{% filter nosuch %}a{% endfilter %}", "{% block b %}x{{ n }}{% endblock %}", "{% block b %}x{% endblock b %}y",
    "{% for i in list %}{% block b scoped %}{{ i }}{% endblock %}{% endfor %}", "{% for i in list %}{% block b %}{{ i }}{% endblock %}{% endfor %}", "{% set a = 1 %}{% block b %}{{ a }}{% endblock %}", "{% print 1, 2 %}", "{% print n %}",
    "{% generation %}a{{ n }}{% endgeneration %}", "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% endif %}{% endfor %}", "{% generation %}{% set g = 1 %}{{ g }}{% endgeneration %}{{ g }}",
    "{% autoescape false %}{{ html }}{% endautoescape %}", "{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}", "{% from 'x' import y %}", "{% do 1 %}",
    # Joiners, cyclers, laziness of names.
    "{% set j = joiner('|') %}{% for x in list %}{{ j() }}{{ x }}{% endfor %}", "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.next() }}{% set _ = c.reset() %}{{ c.current }}", "{% if no %}{{ 1 | nosuch }}{% endif %}ok", "{{ (1 | nosuch) if no else 'ok' }}",
    "{% if no %}{{ 1 is nosuch }}{% endif %}ok", "{% if t %}{{ 1 | nosuch }}{% endif %}", "{{ 1 | nosuch }}", "{% set g = list | map('string') %}{{ g | list }}{{ g | list }}", "{% set g = list | select('odd') %}{% if g %}yes{% endif %}",
    "{{ strftime_now('%d %b %Y') }} {{ strftime_now('%Y-%m-%d %H:%M:%S') }} {{ strftime_now('%A %B %-d, %j') }}", "{{ '%s' % undefined_thing }}|{{ '%s' % (undefined_thing,) }}", "{{ undefined_thing is defined }}{{ undefined_thing or 'x' }}",
    "{% set x = undefined_thing %}{{ x is defined }}{{ x }}", "{% set content = messages[1]['content'] | trim %}{{ '<|u|>' + content + '\\n' }}", "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}{% endif %}{% endfor %}",
    "{% for m in messages %}{{ '<|' ~ m['role'] ~ '|>\\n' ~ (m['content'] | trim) ~ '\\n' }}{% endfor %}{% if add_generation_prompt is defined and add_generation_prompt %}{{ 'A:' }}{% endif %}",
    "{%- for m in messages %}\n    {%- if loop.first and m.role == 'system' %}\n{{- 'SYS ' + m.content }}\n    {%- else %}\n        {{- '\\n' + m.role + ': ' }}\n        {{- m.content }}\n    {%- endif %}\n{%- endfor %}\n",
    "{{ messages | tojson(indent=4) }}", "{{ namespace(a=1) is mapping }}{{ namespace is callable }}", "{{ [namespace] | length }}", "{{ {'x': 1, 'x': 2} }}", "{{ d | map('upper') | list }}", "{{ d.items() | first }}", "{{ (d.items() | list)[0][1] }}",
    "{% set xs = [] %}{% set xs = xs + [1] %}{% set xs = xs + [2] %}{{ xs }}", "{% set m = {} %}{% set m = dict(m, **{'k': 1}) %}{{ m }}", "{{ range(*[1, 4]) | list }}", "{% macro m(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ m(*[1, 2]) }}{{ m(**{'a': 3, 'b': 4}) }}",
    "{% for x in list -%}\n  {{ x }}\n{%- endfor %}", "{%- if messages[0]['role'] == 'system' -%}\n  {%- set sys = messages[0]['content'] -%}\n  {%- set rest = messages[1:] -%}\n{%- else -%}\n  {%- set rest = messages -%}\n{%- endif -%}\n{{ sys }}|{{ rest | length }}",
    "{% set first = true %}{% for x in list %}{% if first %}F{% set first = false %}{% endif %}{{ x }}{% endfor %}", "{{ users | map(attribute='name') | map('lower') | sort | join(',') }}", "{{ users | selectattr('address.city', 'equalto', 'Rome') | map(attribute='name') | first }}",
    "{% for g in users | groupby('age') %}{{ g.grouper }}:{% for u in g.list %}{{ u.name }},{% endfor %};{% endfor %}", "{% for age, us in users | groupby('age') %}{{ age }}:{{ us | length }};{% endfor %}", "{{ [1, 2, 3] | map('multiply', 2) | list }}", "{{ '{{ x }}' }}", "{{ \"a\" \"b\" 'c' }}", "{{ 1if t else 2 }}", "{{ [1,2]|length }}", "{{ 5.0.is_integer }}", "{{ x if x is defined else 'u' }}", "{{ not x is defined }}", "{{ 'a' in ['a'] and 'b' not in ['a'] }}", "{{ n*2+1 }}", "{{ n-1 }}", "{{ n -1 }}", "{{ list|sort|first+1 }}", "{{ d.a+d.b }}", "{{-n}}", "{{- -n -}}", "{% if n is number and not n is string %}y{% endif %}", "{% if messages[0].content is string %}s{% elif messages[0].content is iterable %}i{% endif %}", "{% if 'x' in undefined_thing %}a{% else %}b{% endif %}", "{{ (s, n) | join('-') }}", "{{ s[:5] ~ s[5:] == s }}", "{{ loop is defined }}{{ caller is defined }}{{ self is defined }}" if False else "{{ loop is defined }}{{ caller is defined }}",
]


def refuse(message):
    raise jinja2.exceptions.TemplateError(message)


class Generation(jinja2.ext.Extension):
    """The tag that marks what the assistant said; as a call block, its body has its own scope."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


def to_json(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def main():
    import datetime
    now = datetime.datetime(2025, 1, 5, 12, 30, 45)
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = to_json
    env.globals["raise_exception"] = refuse
    env.globals["strftime_now"] = lambda format: now.strftime(format)
    cases = []
    for template in ["{{ %s }}" % e for e in EXPRESSIONS] + TEMPLATES:
        case = {"template": template}
        try:
            case["expected"] = env.from_string(template).render(**copy.deepcopy(VARIABLES))
        except Exception as error:  # whatever Python raises counts as a failure
            case["error"] = type(error).__name__
        if " object at 0x" in case.get("expected", "") or "<built-in" in case.get("expected", ""):
            continue  # an address: nothing to compare
        cases.append(case)
    document = {"now": now.isoformat(), "variables": VARIABLES}
    lines = [json.dumps(case, ensure_ascii=False) for case in cases]
    head = json.dumps(document, ensure_ascii=False)[:-1]
    sys.stdout.write(head + ', "cases": [\n' + ",\n".join(lines) + "\n]}\n")


main()

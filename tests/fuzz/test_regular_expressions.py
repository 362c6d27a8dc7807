"""No regular expression can be made to work much longer by its input: steps are counted, not seconds.

Every `re.compile` and every direct call of `re` in the service is found in its source, and run over hostile texts of
one and of two sizes by a matcher that backtracks as Python's does, and counts. (`pattern=` of the schemas is matched
without backtracking at all, by Rust's engine.)
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from re import _constants as op
from re import _parser as parser
from typing import Any

import pytest

import sms_foundation

_SOURCE = Path(sms_foundation.__file__).parent
_MAX_STEPS = 300_000
_SIZE = 60
_TEXTS_OF_ANY = "aA0 \n+-_.,:;/=\"'%&<>()[]{}é🙂\0"
_ANCHORED = {"match", "fullmatch"}
_FLAGS = {"IGNORECASE", "MULTILINE", "DOTALL", "VERBOSE"}
Next = Callable[[int], bool]


class TooManyStepsError(Exception):
    """Nobody would wait for this."""


class Matcher:
    """Matches as Python does, trying one way after the other, and counts the tries."""

    def __init__(self, pattern: str, flags: int, text: str) -> None:
        self._tree = parser.parse(pattern, flags)
        self._flags = self._tree.state.flags
        self._text = text
        self.steps = 0
        self.is_found = False

    def search(self, *, is_anchored: bool) -> int:
        """Look for a match that does not exist or exists; returns the steps it took."""
        for start in range(1 if is_anchored else len(self._text) + 1):
            if self._match(list(self._tree), 0, start, lambda _at: True):
                self.is_found = True
                break
        return self.steps

    def _match(self, items: list[Any], index: int, at: int, then: Next) -> bool:
        self.steps += 1
        if self.steps > _MAX_STEPS:
            raise TooManyStepsError
        if index == len(items):
            return then(at)
        code, value = items[index]
        rest: Next = lambda end: self._match(items, index + 1, end, then)  # noqa: E731
        match code:
            case op.MAX_REPEAT | op.MIN_REPEAT | op.POSSESSIVE_REPEAT:
                return self._repeat(value, at, rest)
            case op.SUBPATTERN:
                return self._match(list(value[3]), 0, at, rest)
            case op.ATOMIC_GROUP:
                return self._match(list(value), 0, at, rest)
            case op.BRANCH:
                return any(self._match(list(branch), 0, at, rest) for branch in value[1])
            case op.ASSERT | op.ASSERT_NOT:
                direction, inner = value
                found = direction > 0 and self._match(list(inner), 0, at, lambda _end: True)
                return rest(at) if direction < 0 or found == (code is op.ASSERT) else False
            case op.GROUPREF:  # here only of the one character before
                return 0 < at < len(self._text) and self._text[at] == self._text[at - 1] and rest(at + 1)
            case op.AT:
                return self._is_at(value, at) and rest(at)
        return at < len(self._text) and self._is_in(code, value, self._text[at]) and rest(at + 1)

    def _repeat(self, value: Any, at: int, rest: Next) -> bool:
        least, most, inner = value
        single = list(inner)
        if len(single) == 1 and single[0][0] in (op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN):
            end = at
            while end < len(self._text) and end - at < most and self._is_in(*single[0], self._text[end]):
                end += 1
                self.steps += 1
            return any(rest(stop) for stop in range(end, at + least - 1, -1))

        def again(count: int, begin: int) -> bool:
            def on(end: int) -> bool:
                return end > begin and again(count + 1, end)

            return (count < most and self._match(single, 0, begin, on)) or (count >= least and rest(begin))

        return again(0, at)

    def _is_at(self, where: Any, at: int) -> bool:
        size = len(self._text)
        match where:
            case op.AT_BEGINNING_STRING:
                return at == 0
            case op.AT_BEGINNING:
                return at == 0 or bool(self._flags & re.MULTILINE and self._text[at - 1] == "\n")
            case op.AT_END_STRING:
                return at == size
            case op.AT_END:
                return at == size or bool(self._flags & re.MULTILINE and self._text[at] == "\n")
        return True  # a boundary of words: at worst too many steps are counted

    def _is_in(self, code: Any, value: Any, character: str) -> bool:
        if self._flags & re.IGNORECASE:
            character = character.lower()
        match code:
            case op.LITERAL:
                return ord(character) == value
            case op.NOT_LITERAL:
                return ord(character) != value
            case op.ANY:
                return character != "\n" or bool(self._flags & re.DOTALL)
        is_negated = value[0][0] is op.NEGATE
        return any(_holds(each, character) for each in value if each[0] is not op.NEGATE) != is_negated


_CATEGORIES = {
    op.CATEGORY_DIGIT: str.isdigit,
    op.CATEGORY_SPACE: str.isspace,
    op.CATEGORY_WORD: lambda each: each.isalnum() or each == "_",
    op.CATEGORY_NOT_DIGIT: lambda each: not each.isdigit(),
    op.CATEGORY_NOT_SPACE: lambda each: not each.isspace(),
    op.CATEGORY_NOT_WORD: lambda each: not (each.isalnum() or each == "_"),
}


def _holds(member: Any, character: str) -> bool:
    code, value = member
    match code:
        case op.LITERAL:
            return ord(character) == value
        case op.RANGE:
            return value[0] <= ord(character) <= value[1]
        case op.CATEGORY:
            return _CATEGORIES[value](character)
    raise NotImplementedError(code)


def _is_of_re(call: ast.Call) -> bool:
    function = call.func
    if not isinstance(function, ast.Attribute) or not isinstance(function.value, ast.Name):
        return False
    return function.value.id == "re" and function.attr != "escape"


def _text_of(node: ast.expr, names: Mapping[str, ast.expr]) -> str | None:
    """Return a pattern that stands in the source; what only the program knows counts as a word."""
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.Constant(value=bytes() as data):
            return data.decode("latin-1")
        case ast.JoinedStr(values=values):
            return "".join(_text_of(each, names) or "word" for each in values)
        case ast.FormattedValue(value=ast.Name() as name) | (ast.Name() as name):
            return _text_of(names[name.id], names) if name.id in names else "word"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return (_text_of(left, names) or "word") + (_text_of(right, names) or "word")
    return None


class _Module:
    """The expressions of one file, and how they are used."""

    def __init__(self, path: Path) -> None:
        self._place = str(path.relative_to(_SOURCE))
        self._tree = ast.parse(path.read_text())
        nodes = list(ast.walk(self._tree))
        targets = [(node.targets[0], node.value) for node in nodes if isinstance(node, ast.Assign)]
        targets += [(node.target, node.value) for node in nodes if isinstance(node, ast.AnnAssign) and node.value]
        self._names = {target.id: value for target, value in targets if isinstance(target, ast.Name)}
        self._uses: dict[object, set[str]] = defaultdict(set)
        for node in nodes:
            if isinstance(node, ast.Attribute):
                used = node.value
                self._uses[used.id if isinstance(used, ast.Name) else used].add(node.attr)

    def expressions(self) -> Iterator[tuple[str, str, int, bool]]:
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call) and _is_of_re(node) and node.args:
                text = _text_of(node.args[0], self._names)
                flags = [each for each in ast.walk(node) if isinstance(each, ast.Attribute) and each.attr in _FLAGS]
                value = sum({getattr(re, each.attr).value for each in flags})
                yield f"{self._place}:{node.lineno}", text or "", value, self._is_anchored(node)

    def _is_anchored(self, call: ast.Call) -> bool:
        assert isinstance(call.func, ast.Attribute)
        if call.func.attr != "compile":
            return call.func.attr in _ANCHORED
        names = [name for name, value in self._names.items() if value is call]
        uses = self._uses[call].union(*(self._uses[name] for name in names))
        return bool(uses) and uses <= _ANCHORED


def expressions() -> Iterator[tuple[str, str, int, bool]]:
    """Yield place, pattern, flags, and whether it is only tried at the beginning, of each expression in the source."""
    for path in sorted(_SOURCE.rglob("*.py")):
        yield from _Module(path).expressions()


def _letters(pattern: str, flags: int) -> str:
    """Return characters that the parts of a pattern distinguish."""
    found: set[str] = set()

    def walk(tree: Any) -> None:
        for code, value in tree:
            match code:
                case op.LITERAL | op.NOT_LITERAL:
                    found.add(chr(value))
                case op.IN:
                    walk([each for each in value if each[0] not in (op.NEGATE, op.CATEGORY)])
                case op.RANGE:
                    found.update((chr(value[0]), chr(value[1])))
                case op.MAX_REPEAT | op.MIN_REPEAT | op.POSSESSIVE_REPEAT:
                    walk(value[2])
                case op.SUBPATTERN:
                    walk(value[3])
                case op.BRANCH:
                    for branch in value[1]:
                        walk(branch)
                case op.ASSERT | op.ASSERT_NOT:
                    walk(value[1])

    walk(parser.parse(pattern, flags))
    return "".join(sorted(found))


def worst(pattern: str, flags: int, size: int, *, is_anchored: bool) -> int:
    """Return the most steps that any of many hostile texts of a size takes."""
    letters = _letters(pattern, flags)
    prefix = "".join(chr(value) for code, value in parser.parse(pattern, flags) if code is op.LITERAL)
    units = [*_TEXTS_OF_ANY, *letters, *(first + second for first in letters[:5] for second in letters[:5]), letters]
    texts = (start + unit * (size // max(len(unit), 1)) + "\0!" for unit in units for start in ("", prefix))
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)  # each repetition of a group goes some calls deeper
    try:
        return max(Matcher(pattern, flags, text).search(is_anchored=is_anchored) for text in texts)
    finally:
        sys.setrecursionlimit(usual)


_FOUND = list(expressions())


class TestRegularExpressions:
    def test_they_are_found(self) -> None:
        assert len(_FOUND) > 20
        assert not [place for place, pattern, _, _ in _FOUND if not pattern], "a pattern that is not in the source"

    @pytest.mark.parametrize(("place", "pattern", "flags", "is_anchored"), _FOUND, ids=[each[0] for each in _FOUND])
    def test_twice_the_text_takes_about_twice_the_steps(
        self, place: str, pattern: str, flags: int, is_anchored: bool
    ) -> None:
        small = worst(pattern, flags, _SIZE, is_anchored=is_anchored)
        large = worst(pattern, flags, _SIZE * 2, is_anchored=is_anchored)

        assert large <= small * 2.5 + 100, (pattern, small, large)

    @pytest.mark.parametrize("pattern", [r"(a+)+$", r"(a|a)*b", r"a*a*$", r"(?:a|aa)+!x"])
    def test_expressions_that_can_be_made_slow_are_told_from_others(self, pattern: str) -> None:
        try:
            small = worst(pattern, 0, 20, is_anchored=True)
            large = worst(pattern, 0, 40, is_anchored=True)
        except TooManyStepsError:
            return
        assert large > small * 2.5 + 100

    def test_the_matcher_agrees_with_python(self) -> None:
        patterns = (r"^(ab?)+c", r"x{2,3}y\Z", r"[^a-c]+\d", r"a(?!b)", r"(?:one |two )+$", r"(.)\1{2,}")
        texts = ("abaabc", "axxxy", "xy ", "abcxyz9", "ab", "abac", "one two ", "xyyyz", "")
        for pattern, text in product(patterns, texts):
            matcher = Matcher(pattern, 0, text)
            matcher.search(is_anchored=False)
            assert matcher.is_found == bool(re.search(pattern, text)), (pattern, text)

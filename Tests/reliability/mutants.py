"""Where a line of Swift or C can be changed, and how. No parser: what comes out wrong does not compile."""

import collections, re

Mutant = collections.namedtuple("Mutant", "path line rule function key number text", defaults=[0, ""])


def larger(match):
    number = match.group().replace("_", "")
    return str(float(number) * (1 + 2 ** -16)) if re.search(r"[.]|^\d+e", number) else str(int(number, 0) + 1)


OPERAND = r"(?:-?[\w.$!]+(?:\((?:[^()]|\([^()]*\))*\)|\[[^\[\]]*\])?[!.\w]*|\((?:[^()]|\([^()]*\))*\))"
ARGUMENT = r"((?:[^(),]|\((?:[^()]|\([^()]*\))*\))+)"
# A pattern and what replaces it.
RULES = {
    "sign": [(r" (&?)\+(=?) ", r" \1-\2 "), (r" (&?)-(=?) ", r" \1+\2 "), (r"(?<![\w)\]] )(?<=[ (\[])-(?=[\w(])", "")],
    "factor": [(r" &?[*/] " + OPERAND, ""), (r" / ", " * "), (r"\.addingProduct\([^()]*\)", ""),
               (r"\b\w+\._fma\(" + ARGUMENT + ", " + ARGUMENT + ", " + ARGUMENT + r"\)", r"\3")],
    "term": [(r" &?[+-] " + OPERAND, "")],
    "comparison": [(r" < ", " <= "), (r" <= ", " < "), (r" > ", " >= "), (r" >= ", " > "), (r" == ", " != "),
                   (r" != ", " == ")],
    "range": [(r"\b0\.\.<", "1..<"), (r"\.\.<(\S+)$", r"..<(\1 - 1)")],
    "constant": [(r"(?<![\w.$])(?:0x[\da-f_]+|\d[\d_]*(?:\.[\d_]+)?(?:e-?\d+)?)(?![\w.])", larger)],
    "extreme": [(r"\bmin\(", "max("), (r"\bmax\(", "min(")],
    "logic": [(r" && ", " || "), (r" \|\| ", " && "), (r"!(?=[\w(])", ""), (r"\btrue\b", "false"),
              (r"\bfalse\b", "true"), (r"^(.*)$", r"!(\1)")],
    "bits": [(r" << ", " >> "), (r" >> ", " << "), (r" \^= ", " |= "), (r" \^ ", " | "), (r" & ", " | "),
             (r" \| ", " & ")],
    "argument": [(r"(\w\((?:[^()]*, )?)" + ARGUMENT + ", " + ARGUMENT + r"\)", r"\1\3, \2)"),
                 (r"_choose\(" + ARGUMENT + ", " + ARGUMENT + ", ", r"_choose(\1, \1 - \2, ")],
    "extent": [(r"\browStride\b", "columns"), (r"\.columns\b", ".rows"), (r"\.rows\b(?!\()", ".columns"),
               (r"\baRow\b", "aStep"), (r"\baStep\b", "aRow"), (r"\bbStep\b", "bColumn"), (r"\bbColumn\b", "bStep"),
               (r"\bline\b", "step"), (r"\blow\b", "high"), (r"\bhigh\b", "low"), (r"\blowHalf\b", "highHalf")],
    "statement": [(r"^.*$", "")],
}
CONTINUES = re.compile(r"\s*(&&|\|\||\?|:|\+ |- |\* |\.\w|>|==)")
GOES_ON = re.compile(r"(\s(=|\+|-|\*|&&|\|\||\?)|,|<|\(|\[)$")


def logical_lines(text):
    """Statements that go over several lines as one: (first line, how many, text)."""
    lines = [re.sub(r"\s*(//.*|/\*.*\*/\s*)$", "", line) for line in text.split("\n")]
    i = 0
    while i < len(lines):
        first, joined = i, lines[i]
        while i + 1 < len(lines) and not joined.endswith("\\") and joined.strip() and lines[i + 1].strip() and (
                sum(joined.count(c) for c in "([") > sum(joined.count(c) for c in ")]")
                or GOES_ON.search(joined) or CONTINUES.match(lines[i + 1])):
            i += 1
            joined += " " + lines[i].strip()
        yield first, i - first + 1, joined
        i += 1


def pieces(line, ends):
    """(start, text, what ends it): the line, cut at what is not within brackets."""
    depth = start = 0
    for i, c in enumerate(line):
        depth += (c in "([") - (c in ")]")
        if c in ends and (depth == 0 or c == ";"):
            yield start, line[start:i], c
            start = i + 1
    yield start, line[start:], ""


def changed(text, is_condition, is_line):
    for rule, changes in RULES.items():
        if rule == "statement" and not is_line: continue
        for pattern, new in changes:
            if pattern == r"^(.*)$" and not is_condition: continue
            for match in re.finditer(pattern, text):
                other = text[:match.start()] + (new(match) if callable(new) else match.expand(new)) + text[match.end():]
                if other != text and not (rule == "argument" and ": " in match.group()): yield rule, other


NOT_ASKED = re.compile(r"\b(import|throw|try|typealias|enum|struct|func|super|precondition)\b|^\s*[@#]|prefetch")
ASSIGNS = re.compile(r"[\w.!\[\]()&* $+,]*? (?:&?[-+*/^|]?|<<|>>)= ")


def forms(piece, end, is_c, is_whole):
    """(what goes before, what may change, how a choice of two is written), if anything may change."""
    expression = "{0} ? ({1}) : ({2})".format
    if is_c:
        if piece.lstrip().startswith("for (") and ")" not in piece: return None
        statement = "if ({0}) {{ {1}; }} else {2}".format
        for pattern, form in [(r"(\s*return )(.*)$", expression),
                              (r"(#define \w+\([\w, ]+\) )(__builtin\w+\(.*)$", "({0} ? {1} : {2})".format),
                              (r"(\s*(?:const )?\w+ \**\w+ = )([^{,]+(?:\(.*\))?)$", expression),
                              (r"( )(\w+ < [\w &<]+)$", expression),
                              (r"((?:\s*for \(.*\) | \w+\+\+\) )?)(\s*[*(]?[\w\[\] *+()]+ [-+&|^]?= .*)$", statement)]:
            if match := re.match(pattern, piece): return *match.groups(), form, pattern
        return None
    if NOT_ASKED.search(piece): return None
    if end == "{":
        match = re.match(r"(\s*(?:else )?(?:if|while|guard) )(.*?)( else)? ?$", piece)
        if match and not re.search(r"\b(let|var|case)\b", piece): return match[1], match[2], expression, match[3] or ""
        match = re.match(r"(\s*for \w+ in )(.*?) $", piece)
        return (match[1], match[2], expression, "") if match and "where" not in piece else None
    label = re.match(r"\s*(?:case [^:]*:|default:)?\s*", piece)[0]
    rest = piece[len(label):].rstrip()
    if not rest or rest in ("break", "continue", "return") or rest.startswith(("case ", "init")): return None
    if match := re.match(r"((?:let|var) [^=]*= |return )(.*)$", rest): return label + match[1], match[2], expression, ""
    if re.match(r"(let|var|private|public|package|static|fileprivate|internal|final|override)\b", rest): return None
    if ASSIGNS.match(rest): return label, rest, "if {0} {{ {1} }} else {{ {2} }}".format, ""
    return label, rest, expression, ""


def mutants_in(piece, form, is_line):
    """(rule, what becomes what, the text that asks which one it is)."""
    before, old, choice = form[:3]
    is_condition = bool(re.search(r"\b(if|while|guard) $", before))
    for rule, new in changed(old, is_condition, is_line and not before.strip()):
        text = before + choice("{choice}", "\0new", "\0old") + piece[len(before) + len(old):]
        if rule == "statement": text = before + "if !{choice} { \0old }"
        what = f"{(before + old).strip()} => {new.strip() or 'nothing'}"
        yield rule, what, text.replace("\0new", new).replace("\0old", old)


def mutants_of(path):
    """All of a file's mutants. Their text has {choice} where the question goes which one it is."""
    is_c = path.suffix == ".h"
    stack, function, seen, is_portable = [], "", collections.Counter(), False
    logical = list(logical_lines(path.read_text()))
    ends = [text.rstrip()[-1:] for _, _, text in logical] + [""]
    for i, (line, _, text) in enumerate(logical):
        # What is there for other processors is not compiled.
        directive = text.split()[:1]
        if directive in (["#else"], ["#endif"]) or text.startswith("#if !"):
            is_portable = directive != ["#endif"] and not is_portable
        if is_portable: continue
        if is_c and (match := re.match(r"(?:PENTE_\w+|#define|void) .*?(\w+)\(", text)): function = match[1]
        parts = list(pieces(text, "{};" if is_c else "{}"))
        for start, piece, end in parts:
            is_code = "code" in stack[-1:]
            if is_c: is_code = text.startswith(("    ", "#define")) or "return" in text
            if is_code and '"' not in piece and (form := forms(piece, end, is_c, len(parts) == 1)):
                # Without its only statement a function may lack a result.
                is_line = not is_c and len(parts) == 1 and (ends[i - 1] != "{" or ends[i + 1] != "}")
                for rule, what, other in mutants_in(piece, form, is_line):
                    key = f"{path.parent.name}/{path.name} {function}: {what}"
                    seen[key] += 1
                    if seen[key] > 1: key += f" #{seen[key]}"
                    other = text[:start] + other + ("" if rule == "statement" else text[start + len(piece):])
                    yield Mutant(path, line, rule, function, key, text=other)
            if end == "{" and not is_c:
                if match := re.search(r"\b(func [^\s(<]+|init|subscript|var \w+)", piece):
                    if "=" not in piece.split("(")[0]: function = match[1].split()[-1]
                    stack.append("code")
                else:
                    is_type = re.search(r"\b(struct|class|enum|extension|protocol)\b", piece)
                    stack.append("type" if is_type else (stack or [""])[-1])
            elif end == "}" and stack: stack.pop()


def write(path, mutants):
    """The file's text with the mutants, one a line, and which line is whose."""
    by_line = {m.line: m for m in mutants}
    raw, out, places = path.read_text().split("\n"), [], {}
    for line, count, _ in logical_lines(path.read_text()):
        if m := by_line.get(line):
            out.append(m.text.replace("{choice}", f"pente_mutant_is({m.number})"))
            places[len(out)] = m
        else:
            out += raw[line:line + count]
    if path.suffix == ".h":
        return "\n".join(out).replace("#include <stdint.h>", '#include "mutant.h"'), places
    return "import PenteVectors; " + "\n".join(out), places

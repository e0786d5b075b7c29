"""docs/performance.md: its tables are written anew between their marks; the words around them stay."""

import re

from .report import number

COLUMNS = ["C", "Python", "Swift", "OpenBLAS", "BLIS", "NumPy", "PyTorch", "fused", "JAX", "sklearn"]


def renew(path, everything):
    text = path.read_text()
    blocks = {"machine": machine(everything)}
    for group in dict.fromkeys(result["group"] for result in everything["cases"]):
        blocks[group] = cases([result for result in everything["cases"] if result["group"] == group])
    blocks["growth"] = growth(everything["growth"])
    blocks["footprint"] = footprint(everything["footprint"])
    for name, block in blocks.items():
        marks = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        text, found = re.subn(marks, lambda match: match[1] + block + "\n" + match[2], text, flags=re.DOTALL)
        if block and not found:
            raise ValueError(f"{path} has no place for {name}")
    path.write_text(text)


def table(head, rows):
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def machine(everything):
    found = everything["machine"]
    caches = ", ".join(f"{name} {size >> 10} KB" for name, size in found["caches"].items())
    lines = [f"- {found['processor']}, {found['processors']} processors; {caches}",
             f"- {found['system']}"]  # fmt: skip
    lines += [f"- {name}: {version}" for name, version in everything["versions"].items() if name in COLUMNS]
    lines += [f"- {limit}" for limit in limits(everything["cases"])]
    lines += [f"- left out: {name} ({reason})" for name, reason in everything["skipped"].items()]
    return "\n".join(lines)


def limits(results):
    """The best that a case saw of each limit."""
    units = {"peak": (1e-3, "GFLOP/s"), "bandwidth": (1e-3, "GB/s")}
    best = {}
    for result in results:
        for name, per_microsecond in result["limits"].items():
            key = (name, result["dtype"] if name == "peak" else "", result["threads"])
            best[key] = max(best.get(key, 0), per_microsecond)
    for (name, dtype, threads), value in sorted(best.items()):
        scale, unit = units[name]
        yield f"{name}{' ' + dtype if dtype else ''}, threads: {threads}: {value * scale:.1f} {unit}"


def cases(results):
    names = [name for name in COLUMNS if any(name in result["microseconds"] for result in results)]
    rows = []
    for result in results:
        times = [number(result["microseconds"][name]) if name in result["microseconds"] else "" for name in names]
        met = [target["text"] if target["met"] else f"**{target['text']}**" for target in result["targets"]]
        label = f"{result['case']}, {result['dtype']}, {result['threads']}".replace("->", "→")
        rows.append([label, *times, "<br>".join(met)])
    return table(["microseconds", *names, "targets (**missed**)"], rows)


def growth(series):
    rows = []
    for one in series:
        for point in one["points"]:
            if "ratio" in point:
                rows.append([point["case"].replace("->", "→"), number(point["microseconds"]), f"{point['ratio']:.2f}",
                             point["edge"] or ""])  # fmt: skip
    return table(["float32, one thread", "microseconds", "times the half", "edge of"], rows) if rows else ""


def footprint(entries):
    rows = [[item["name"], f"{item['value']:.3g} {item['unit']}",
             "" if item["most"] is None else f"{item['most']:g} {item['unit']}"] for item in entries]  # fmt: skip
    return table(["", "is", "may be at most"], rows) if rows else ""

"""Checks the documentation that DocC made: that each public symbol has a comment, by DocC's own count, and that the
landing page's topics lead to all of them."""

import json
import sys
from pathlib import Path


def read(path):
    return json.loads((Path(sys.argv[1]) / path).read_text())


def faults(symbols, topics):
    for symbol in symbols:
        if not symbol["hasAbstract"] and symbol["title"] != "init(rawValue:)":  # which enums have by themselves
            yield symbol["referencePath"].removeprefix("doc://pente/documentation/") + " has no comment"
    for topic in topics:
        if topic.get("generated"):  # of what no topic names
            yield "the landing page has no topic for " + ", ".join(topic["identifiers"])


def main():
    symbols = [symbol for symbol in read("documentation-coverage.json") if symbol["kind"]["isSymbol"]]
    found = list(faults(symbols, read("data/documentation/pente.json")["topicSections"]))
    if found or not symbols:
        sys.exit("check_docs: " + ("\n".join(found) or "there are no symbols"))
    print(f"check_docs: {len(symbols)} public symbols, all with a comment and under a topic")


main()

"""Print the part of a C header between its cffi markers, which cffi can parse as a cdef."""

import sys

BEGIN, END = "/* cffi:begin */", "/* cffi:end */"


def main(header, output):
    with open(header, encoding="utf-8") as file:
        text = file.read()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        sys.exit(f"{header}: expected one {BEGIN} and one {END}")
    with open(output, "w", encoding="utf-8") as file:
        file.write(text[text.index(BEGIN) + len(BEGIN) : text.index(END)])


if __name__ == "__main__":
    main(*sys.argv[1:])

#!/usr/bin/env python3
"""Asks Python's Jinja, set up as transformers does it, for every row of
tests/templates/language.json: [template, text], or null where it must fail."""
import json
import pathlib
import sys
import time

try:
    import jinja2
    import jinja2.ext
    from jinja2.sandbox import ImmutableSandboxedEnvironment
except ImportError:
    print("skipped: no jinja2 for Python")
    sys.exit(0)


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_body")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def raise_exception(why):
    raise jinja2.exceptions.TemplateError(why)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def main():
    path = pathlib.Path(__file__).resolve().parent.parent / "templates" / "language.json"
    given = json.loads(path.read_text(encoding="utf-8"))
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True,
        extensions=[jinja2.ext.loopcontrols, jinja2.ext.do, Generation])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda f: time.strftime(f, time.gmtime(given["now"]))
    bad = 0
    for template, want in given["rows"]:
        try:
            got = env.from_string(template).render(**given["data"])
        except Exception:
            got = None
        if got != want:
            bad += 1
            print(f"{template!r}\n  gives  {got!r}\n  wanted {want!r}")
    print(f"{len(given['rows']) - bad} of {len(given['rows'])} rows as Python's Jinja")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

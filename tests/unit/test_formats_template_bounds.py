"""A template ends, whatever it is and whatever stands in the row."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from batchrunner.formats.faults import RefusedLineError
from batchrunner.formats.template import load_template

_LOOP = "{% for i in range(20000) %}"
_GROWS = "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = "


def fill(folder: Path, source: str) -> str:
    """Fill a template with a row of one field."""
    path = folder / "t.j2"
    path.write_text(source)
    return load_template(str(path))({"n": "N"})


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (_LOOP * 2 + "{% endfor %}" * 2, "loops go round"),
        (_LOOP + "{% for j in range(20000) if false %}{% endfor %}{% endfor %}", "loops go round"),
        (_LOOP + "{{ range(90000) | list | length }}{% endfor %}", "loops go round"),
        (
            "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(40) }}",
            "loops go round",
        ),
        ('{{ "x" * 10000000000 }}', "longer than 64 MB"),
        ("{{ 99 ** 99999999 }}", "longer than 64 MB"),
        (_GROWS + "ns.x ~ ns.x %}{% endfor %}", "longer than 64 MB"),
        (_GROWS + "ns.x + ns.x %}{% endfor %}", "longer than 64 MB"),
        ('{{ "a" | center(10000000000) }}', "longer than 64 MB"),
        ('{{ n.ljust(10000000000) }}', "longer than 64 MB"),
        ('{{ "%10000000000d" % 1 }}', "longer than 64 MB"),
        ('{{ "%*d" % (10000000000, 1) }}', "longer than 64 MB"),
        ('{{ "{:>10000000000}".format(n) }}', "longer than 64 MB"),
        ('{{ ("x" * 99999).replace("x", "y" * 99999) }}', "longer than 64 MB"),
        ('{{ ("x" * 999).join(range(99999) | map("string")) }}', "longer than 64 MB"),
        ('{{ range(99999) | join("x" * 999) }}', "longer than 64 MB"),
        (
            "{% set x %}{% for i in range(90000) %}{{ 'x' * 60000 }}{% endfor %}{% endset %}",
            "longer than 64 MB",
        ),
        ('{{ (" " * 200000) | wordwrap(1) }}', "wraps 200,000 characters without a break at 1"),
        ('{{ ("x" * 9000000) | wordwrap }}', "without a break at 79"),
        ('{{ ("x" * 200000) | wordwrap(wrapstring="+", width=2) }}', "at 2"),
        ('{{ ("\n" * 900000) | wordwrap }}', "loops go round"),
        ("{% include 'other.j2' %}", "one file"),
    ],
)  # fmt: skip
def test_a_template_ends(tmp_path: Path, source: str, why: str) -> None:
    """Loops, powers, widths and copies without end are refused with the row, before they are made."""
    with pytest.raises(RefusedLineError, match=why):
        fill(tmp_path, source)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% for i in [1, 2] %}{{ i ~ '-' ~ n }}{{ loop.last }}/{{ loop.length }} {% endfor %}",
         "1-Nfalse/2 2-Ntrue/2 "),
        ("{% for i in [1, 2, 3] if i != 2 %}{{ i }}{% else %}none{% endfor %}", "13"),
        ("{% for x in [1, 2] recursive %}{{ x }}{% endfor %}", "12"),
        ("{{ 3 * 4 + 5 }} {{ 7 % 4 }} {{ 2 ** 10 }} {{ [1] + [2] }} {{ 'ab' * 2 }}", "17 3 1024 [1,2] abab"),
        ("{{ '%d' % 99999999999 }} {{ '{} {}'.format(n, 99999999999) }}", "99999999999 N 99999999999"),
        ("{{ ['a', 'b'] | join(', ') }} {{ ','.join(['a', 'b']) }}", "a, b a,b"),
        ("{{ [{'a': 1}] | join(',', attribute='a') }} {{ ['a', 'b'] | join(d='+') }}", "1 a+b"),
        ("{{ 'a-b' | replace('-', '+') }}{{ '%s!' | format(n) }}{{ 'a' | center(3) }}", "a+bN! a "),
        ("{{ range(99999) | list | length }}", "99999"),
        ("{{ 'a bb ccc' | wordwrap(3) | tojson }} {{ 'abcd' | wordwrap(2, wrapstring='+') }}",
         '"a\\nbb\\nccc" ab+cd'),
    ],
)  # fmt: skip
def test_what_is_held_is_what_jinja_makes(tmp_path: Path, source: str, text: str) -> None:
    """Loops, operators, methods and filters within the bounds mean what they mean elsewhere."""
    assert fill(tmp_path, source) == text


def test_each_row_is_counted_anew(tmp_path: Path) -> None:
    """What one row was allowed says nothing of the next."""
    path = tmp_path / "t.j2"
    path.write_text("{% for i in range(90000) %}{% endfor %}x")
    render = load_template(str(path))
    assert [render({}) for _ in range(4)] == ["x"] * 4


def test_a_format_of_a_row_is_looked_at_once(tmp_path: Path) -> None:
    """A text with a colon in every other place, taken for a format, takes no time by its square."""
    began = time.process_time()
    assert len(fill(tmp_path, '{{ ("a:" * 60000) | format }}')) == 120_000
    assert time.process_time() - began < 2

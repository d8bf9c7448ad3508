"""export --columns and --excel, from real answers to what a reader makes of the file."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from typing import Any

import openpyxl
import pyarrow.parquet as pq

from tests.fakes import ApiServer
from tests.integration.house import House


def answered(house: House, api: ApiServer, *texts: str, **fields: Any) -> None:
    """Run one job a text, each answered with its own."""
    api.script([
        {"contains": f"say j{n};", "body": message(text)} for n, text in enumerate(texts)
    ])  # fmt: skip
    house.jobs(len(texts), **fields)
    house.submit()


def message(text: str) -> dict[str, Any]:
    """Return an answer."""
    return {
        "id": "m", "type": "message", "role": "assistant", "model": "sim-1", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": text}], "usage": {"input_tokens": 3, "output_tokens": 2},
    }  # fmt: skip


def test_paths_into_answers(house: House, api: ApiServer) -> None:
    """What a model answered as JSON, what was asked and what came back are columns by their paths."""
    answered(house, api, '{"label": "spam", "why": ["a"]}', "no JSON", metadata={"row": 1})
    names = [
        "key",
        "output_json.label",
        "output_json.why",
        "input_text",
        "row",
        "response.usage.input_tokens",
    ]
    out = house.run("export", "--columns", ",".join(names)).out
    read = list(csv.reader(io.StringIO(out, newline="")))
    assert read == [
        names,
        ["j0", "spam", '["a"]', "say j0;", "1", "3"],
        ["j1", "", "", "say j1;", "1", "3"],
    ]
    rows = house.run("export", "-f", "jsonl", "--columns", "output_json,metadata.*").out
    assert [json.loads(row) for row in rows.splitlines()] == [
        {"output_json": {"label": "spam", "why": ["a"]}, "metadata.row": 1},
        {"output_json": None, "metadata.row": 1},
    ]


def test_a_name_that_nobody_has_is_told(house: House, api: ApiServer) -> None:
    """A misspelt name is an empty column, said on stderr with what was likely meant."""
    answered(house, api, "x")
    done = house.run("export", "--columns", "key,ouput_text")
    assert done.out == "key,ouput_text\nj0,\n"
    assert "output_text" in done.err
    done = house.run("export", "--columns", "key,,", code=2)
    assert "--columns key,output_text" in done.err


def test_excel(house: House, api: ApiServer) -> None:
    """--excel: a byte order mark, no formula but plain text, long cells cut, and how many were."""
    answered(house, api, '=HYPERLINK("x")', "-5", "y" * 40_000)
    done = house.run("export", "--excel", "-o", "for.csv", "--columns", "output_text")
    data = (house.folder / "for.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    _, first, second, third = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))
    assert (first, second) == (['\'=HYPERLINK("x")'], ["-5"])
    assert len(third[0]) == 32_767
    assert "1 cell was cut" in done.err
    done = house.run("export", "--excel", "-f", "jsonl", code=2)
    assert "-f csv" in done.err


def test_parquet_and_excel_through_the_program(house: House, api: ApiServer) -> None:
    """-o tells both by their endings, also at submit; stdout carries them too; readers find the answers."""
    text = '{"label": "spam"}'
    api.script([{"body": message(text)}])
    house.jobs(3, metadata={"row": 1})
    house.submit("-o", "out.parquet")
    table = pq.read_table(house.folder / "out.parquet")
    assert table["key"].to_pylist() == ["j0", "j1", "j2"]
    assert table["output_text"].to_pylist() == [text] * 3
    assert table["input_tokens"].to_pylist() == [3] * 3
    columns = ["--columns", "key,output_json.label,metadata.row"]
    house.run("export", "-o", "out.xlsx", *columns)
    (sheet,) = openpyxl.load_workbook(house.folder / "out.xlsx").worksheets
    assert [[cell.value for cell in row] for row in sheet.rows] == [
        ["key", "output_json.label", "metadata.row"],
        *[[f"j{n}", "spam", 1] for n in range(3)],
    ]
    piped = subprocess.run(
        [sys.executable, "-m", "batchrunner", "export", "-f", "parquet"],
        cwd=house.folder, env=house.environ, capture_output=True, check=True,
    )  # fmt: skip
    assert pq.read_table(io.BytesIO(piped.stdout)).equals(table)

"""What Terraform is told of the code: current, and nothing of the bucket left out."""

from __future__ import annotations

import inspect

import pytest
import sqlglot

from infra import declared
from ingest import parts, places


def test_the_file_is_current():
    assert declared.FILE.read_text() == declared.render(), "run `make records`"


def test_every_place_lies_in_a_declared_folder():
    functions = [f for name, f in inspect.getmembers(places, inspect.isfunction) if not name.startswith("of_")]
    found = {places.SWEEPER, parts.FOLDER}
    for function in functions:
        kinds = inspect.get_annotations(function, eval_str=True)
        found.add(function(*[kind() for name, kind in kinds.items() if name != "return"]))
    assert len(found) > 12
    assert [place for place in found if not place.startswith(declared.FOLDERS)] == []


@pytest.mark.parametrize("dialect", declared.DIALECTS)
@pytest.mark.parametrize("path", sorted(declared.VIEWS.glob("*.sql")), ids=lambda p: p.stem)
def test_a_view_in_another_dialect_has_the_same_columns_and_is_described(path, dialect):
    view = declared.query(path.read_text(), dialect)
    own = sqlglot.parse_one(path.read_text(), read="duckdb")
    assert sqlglot.parse_one(view["sql"], read=dialect).named_selects == own.named_selects
    assert view["description"] and "--" not in view["sql"]

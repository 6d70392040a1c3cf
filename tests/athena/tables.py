"""The tables of the lake as Athena has them, told to Trino: columns by the .avsc, partitions by projection.

tests/terraform holds both against what Terraform declares in Glue.
"""

from __future__ import annotations

from typing import Any, Final

from schemas import catalogue
from streams.lake import Table

# Avro -> Glue -> Trino.
GLUE: Final = {
    "string": "string",
    "bytes": "binary",
    "int": "int",
    "long": "bigint",
    "boolean": "boolean",
    "double": "double",
    "timestamp-millis": "timestamp",
    "map of bytes": "map<string,binary>",
}
TRINO: Final = {
    "string": "varchar",
    "binary": "varbinary",
    "int": "integer",
    "timestamp": "timestamp(3)",
    "map<string,binary>": "map(varchar, varbinary)",
}
FIRST_DAY: Final = "2026-11-01"
LAST_DAY: Final = "2026-11-04"
# As Glue's parameters have it, but for the table's own folder.
PROJECTION: Final = {
    "projection.enabled": "true",
    "projection.dt.type": "date",
    "projection.dt.format": "yyyy-MM-dd",
    "projection.dt.range": f"{FIRST_DAY},NOW",
    "projection.hour.type": "integer",
    "projection.hour.range": "0,25",
    "projection.hour.digits": "2",
}


def bare(avro: Any) -> str:
    """The name of an Avro type, out of a union with null."""
    if isinstance(avro, list):
        (avro,) = [t for t in avro if t != "null"]
    if not isinstance(avro, dict):
        return str(avro)
    if avro["type"] == "map":
        return f"map of {avro['values']}"
    return str(avro.get("logicalType", avro["type"]))


def columns(schema: str) -> list[tuple[str, str, str]]:
    """(name, type, comment) of each column of a record, as Glue has them."""
    return [(f["name"], GLUE[bare(f["type"])], f["doc"]) for f in catalogue.raw(schema)["fields"]]


def template(bucket: str, table: str) -> str:
    """Where a partition lies, as Glue's `storage.location.template` has it."""
    return f"s3://{bucket}/{table}/dt=${{dt}}/hour=${{hour}}"


def _partition(name: str, kind: str) -> str:
    own = {
        k.removeprefix(f"projection.{name}."): v for k, v in PROJECTION.items() if k.startswith(f"projection.{name}.")
    }
    # Every projected day is listed by a query that names none: here those that there are rows of, not all until today.
    ends = ", ".join(f"'{LAST_DAY if end == 'NOW' else end}'" for end in own["range"].split(","))
    options = [f"partition_projection_type = '{own['type'].upper()}'", f"partition_projection_range = ARRAY[{ends}]"]
    options += [f"partition_projection_format = '{own['format']}'"] if "format" in own else []
    options += [f"partition_projection_digits = {own['digits']}"] if "digits" in own else []
    return f'"{name}" {kind} WITH ({", ".join(options)})'


def create(table: Table, bucket: str) -> str:
    """CREATE TABLE in Trino's dialect."""
    plain = [f'"{name}" {TRINO.get(kind, kind)}' for name, kind, _ in columns(table.schema)]
    listed = ",\n  ".join([*plain, _partition("dt", "date"), _partition("hour", "integer")])
    options = {
        "external_location": f"'s3://{bucket}/{table.name}'",
        "format": "'PARQUET'",
        "partitioned_by": "ARRAY['dt', 'hour']",
        "partition_projection_enabled": "true",
        "partition_projection_location_template": f"'{template(bucket, table.name)}'",
    }
    with_ = ", ".join(f"{name} = {value}" for name, value in options.items())
    return f'CREATE TABLE "{table.name}" (\n  {listed}\n) WITH ({with_})'

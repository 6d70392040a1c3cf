"""Runs in the double's own environment: makes tables, fills them, asks. Knows nothing of Millrace.

stdin: {"tables": {name: {"columns": [[name, type], ...], "rows": glob of Parquet files}}, "queries": {name: sql}}
stdout: {name: {"columns": [...], "rows": [[...], ...]} or {"error": text}}
"""

import base64
import json
import sys
from datetime import date, datetime
from decimal import Decimal

import fakesnow
import snowflake.connector


def plain(value):
    """A value as JSON has it; a number that is whole as one."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else f"{value:f}"
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(" ", "milliseconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    return float(f"{value:.12g}") if isinstance(value, float) else value


def main():
    """Once."""
    asked = json.load(sys.stdin)
    answers = {}
    with fakesnow.patch():
        connection = snowflake.connector.connect(database="MILLRACE", schema="LAKE")
        cursor = connection.cursor()
        for name, table in asked["tables"].items():
            # Quoted in capitals is what Snowflake makes of a bare name; `at` is a word of the engine below.
            columns = ", ".join(f'"{column.upper()}" {kind}' for column, kind in table["columns"])
            cursor.execute(f"CREATE TABLE {name} ({columns})")
            listed = ", ".join(f'"{column}"' for column, _ in table["columns"])
            files = f"read_parquet('{table['rows']}', hive_partitioning = true, union_by_name = true)"
            # Past the dialect: that rows are loaded is not what is tested here.
            connection._duck_conn.execute(f"INSERT INTO MILLRACE.LAKE.{name.upper()} SELECT {listed} FROM {files}")
        for name, sql in asked["queries"].items():
            try:
                cursor.execute(f"CREATE OR REPLACE VIEW {name} AS {sql}")
                cursor.execute(f"SELECT * FROM {name}")
                columns = [column.name for column in cursor.description]
                answers[name] = {"columns": columns, "rows": [[plain(v) for v in row] for row in cursor.fetchall()]}
            except snowflake.connector.errors.Error as error:
                answers[name] = {"error": str(error)}
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()

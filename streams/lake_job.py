"""The lake: a Flink SQL job that carries usage, responses, audit and waste from Kafka to Parquet, exactly once.

Submitted with `flink run -d -py streams/lake_job.py`; reads its addresses from the environment of that client.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from pyflink.common import Configuration
from pyflink.table import EnvironmentSettings, TableEnvironment

from schemas.addresses import Addresses
from streams import lake


def submit(addresses: Addresses) -> None:
    """Submit one statement set with an INSERT for each table. Returns once the cluster has taken the job."""
    configuration = Configuration()
    for key, value in lake.settings().items():
        configuration.set_string(key, value)
    env = TableEnvironment.create(
        EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(configuration).build()
    )
    statements = env.create_statement_set()
    for table in lake.TABLES:
        env.execute_sql(lake.source(table, addresses.kafka, addresses.registry))
        env.execute_sql(lake.sink(table, f"s3://{addresses.bucket}"))
        statements.add_insert_sql(lake.insert(table))
    statements.execute()


def main(environ: Mapping[str, str] = os.environ) -> None:
    """Entry point of `flink run`."""
    submit(Addresses.of(environ))


if __name__ == "__main__":
    main()

"""The admission job: journal -> one keyed operator -> work, replies, results (at least once) and rows (exactly once).

Submitted to a Flink cluster with `flink run -py streams/admission_job.py`.
"""

from __future__ import annotations

import os
from typing import Any, Final

from pyflink.common import Configuration, Types, WatermarkStrategy
from pyflink.common.serialization import ByteArraySchema, RowFieldExtractorSchema
from pyflink.datastream import DataStream, OutputTag, StreamExecutionEnvironment
from pyflink.datastream.connectors.base import DeliveryGuarantee
from pyflink.datastream.connectors.kafka import (
    KafkaOffsetsInitializer,
    KafkaRecordSerializationSchema,
    KafkaSink,
    KafkaSource,
)
from pyflink.java_gateway import get_gateway
from pyflink.util.java_utils import get_java_class

from schemas import registry, topics
from schemas.addresses import Addresses
from streams.carrier import BATCH_ROWS, BYTES, LEDGER_ROWS, OUT, Admission, tenant_of

NAME: Final = "admission"
CHECKPOINT_MS: Final = 5_000
# Above the longest outage after which open transactions must still be committed, below the broker's 15 minutes.
TRANSACTION_TIMEOUT_MS: Final = 840_000

NOW_LINGER_MS: Final = 1
# Lines of batches: a tenth of the requests to the broker, and of the answers to each of those who read them.
BATCH_LINGER_MS: Final = 10
ROWS_LINGER_MS: Final = 100

SETTINGS: Final = {
    "pipeline.name": NAME,
    "python.execution-mode": "thread",
    "execution.checkpointing.interval": f"{CHECKPOINT_MS} ms",
    "execution.checkpointing.min-pause": "500 ms",
    "execution.checkpointing.timeout": "60 s",
    "execution.checkpointing.mode": "EXACTLY_ONCE",
    "execution.checkpointing.tolerable-failed-checkpoints": "100",
    "execution.buffer-timeout.interval": "0 ms",
    "pipeline.auto-watermark-interval": "50 ms",
    "pipeline.object-reuse": "true",
}


def journal(addresses: Addresses) -> KafkaSource:
    """The one input."""
    return (
        KafkaSource.builder()
        .set_bootstrap_servers(addresses.kafka)
        .set_topics(topics.JOURNAL)
        .set_group_id(NAME)
        .set_starting_offsets(KafkaOffsetsInitializer.earliest())
        .set_value_only_deserializer(ByteArraySchema())
        .set_property("isolation.level", "read_committed")
        .set_property("fetch.max.wait.ms", "100")
        .set_property("max.partition.fetch.bytes", str(topics.MAX_RECORD_BYTES))
        .build()
    )


def sink(addresses: Addresses, guarantee: DeliveryGuarantee, prefix: str, linger_ms: int) -> KafkaSink:
    """Writes rows of (topic, key, value), each to the topic it names; waits `linger_ms` for more to send at once."""
    builder = (
        KafkaSink.builder()
        .set_bootstrap_servers(addresses.kafka)
        .set_delivery_guarantee(guarantee)
        .set_transactional_id_prefix(prefix)
        .set_property("transaction.timeout.ms", str(TRANSACTION_TIMEOUT_MS))
        .set_property("max.request.size", str(topics.MAX_RECORD_BYTES))
        .set_property("linger.ms", str(linger_ms))
        .set_property("batch.size", "131072")
        .set_property("acks", "all")
    )
    # PyFlink puts a Python map in front of a sink whose topic varies; our rows carry the topic in front already, so
    # the Java builder is given its parts directly.
    jvm: Any = get_gateway().jvm
    selector = jvm.org.apache.flink.python.util.PythonConnectorUtils.createFirstColumnTopicSelector(
        get_java_class(jvm.org.apache.flink.connector.kafka.sink.TopicSelector)
    )
    serializer = KafkaRecordSerializationSchema.builder()
    serializer.set_key_serialization_schema(RowFieldExtractorSchema(1))
    serializer.set_value_serialization_schema(RowFieldExtractorSchema(2))
    builder._j_builder.setRecordSerializer(serializer._j_builder.setTopicSelector(selector).build())
    return builder.build()


def side_output(stream: DataStream, tag: OutputTag) -> DataStream:
    """A side output as it is; PyFlink's own accessor copies every record through one more Python map."""
    return DataStream(stream._j_data_stream.getSideOutput(tag.get_java_output_tag()))


def build(env: StreamExecutionEnvironment, addresses: Addresses) -> None:
    """The job's graph. Every operator has a uid, so that state finds its way back."""
    ids = registry.publish(addresses.registry)
    source = env.from_source(
        journal(addresses), WatermarkStrategy.for_monotonous_timestamps(), "journal", type_info=BYTES
    ).uid("journal")
    decided: DataStream = (
        source.key_by(tenant_of, key_type=Types.STRING())
        .process(Admission(ids, addresses.registry), output_type=OUT)
        .uid("admission")
        .name("admission")
    )
    now = sink(addresses, DeliveryGuarantee.AT_LEAST_ONCE, "millrace-now", NOW_LINGER_MS)
    decided.sink_to(now).uid("now").name("now")
    batch = sink(addresses, DeliveryGuarantee.AT_LEAST_ONCE, "millrace-batch", BATCH_LINGER_MS)
    side_output(decided, BATCH_ROWS).sink_to(batch).uid("batch").name("batch")
    rows = side_output(decided, LEDGER_ROWS)
    # Nobody sees these rows before the checkpoint commits them, so waiting for fuller batches costs no one anything.
    rows.sink_to(sink(addresses, DeliveryGuarantee.EXACTLY_ONCE, "millrace-rows", ROWS_LINGER_MS)).uid("rows").name(
        "rows"
    )


def main() -> None:
    """Submit the job; addresses come from the environment."""
    configuration = Configuration()
    for key, value in SETTINGS.items():
        configuration.set_string(key, value)
    env = StreamExecutionEnvironment.get_execution_environment(configuration)
    build(env, Addresses.of(os.environ))
    env.execute(NAME)


if __name__ == "__main__":
    main()

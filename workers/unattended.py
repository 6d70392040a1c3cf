"""What lies in the log for pools that nobody serves: no worker can tell of it. Asked of Kafka."""

from __future__ import annotations

from typing import Final

from confluent_kafka import Consumer, TopicPartition

from schemas import kafka
from workers import watermark
from workers.client import PATIENT
from workers.intake import GROUP
from workers.partitions import pool_and_lane
from workers.watermark import Watermark

ASK_S: Final = 5.0


def unfinished(bootstrap: str) -> dict[tuple[str, str], int]:
    """Records of each (pool, lane) that the workers' group has not committed. Blocks. Raises KafkaException."""
    consumer = Consumer({**kafka.consumer(bootstrap, GROUP, "plan"), **PATIENT})
    try:
        found = consumer.list_topics(timeout=ASK_S).topics
        places = [TopicPartition(n, p) for n, t in found.items() if n.startswith("work.") for p in t.partitions]
        lags: dict[tuple[str, str], int] = {}
        for place in consumer.committed(places, timeout=ASK_S) if places else []:
            low, high = consumer.get_watermark_offsets(place, timeout=ASK_S)
            start = max(low, place.offset)
            mark = Watermark(start, *watermark.parse(start, place.metadata))
            key = pool_and_lane(place.topic)
            lags[key] = lags.get(key, 0) + mark.unfinished(high)
        return lags
    finally:
        consumer.close()

-- What a pool made of its engines, by day. `busy_seconds`, the GPU-seconds where a worker has one GPU, is the time in which
-- a worker ran at least one request of the pool: of requests that overlap, each moment counts once.
WITH runs AS (
  SELECT
    dt,
    pool,
    worker,
    input_tokens + output_tokens AS tokens,
    output_tokens,
    cached_tokens,
    cost_micros,
    date_diff('millisecond', TIMESTAMP '1970-01-01 00:00:00', completed_at) AS end_ms,
    total_ms - queue_ms AS run_ms
  FROM usage
  WHERE worker <> ''
),
spans AS (
  SELECT
    *,
    end_ms - run_ms AS start_ms,
    max(end_ms) OVER (
      PARTITION BY dt, pool, worker ORDER BY end_ms - run_ms ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS before_ms
  FROM runs
),
engines AS (
  SELECT
    dt,
    pool,
    count(*) AS requests,
    sum(tokens) AS billed_tokens,
    sum(output_tokens) AS output_tokens,
    sum(cached_tokens) AS prefix_tokens,
    sum(cost_micros) AS cost_micros,
    sum(CASE
      WHEN before_ms IS NULL OR before_ms <= start_ms THEN run_ms
      WHEN before_ms >= end_ms THEN 0
      ELSE end_ms - before_ms
    END) AS busy_ms
  FROM spans
  GROUP BY dt, pool
),
wasted AS (
  SELECT dt, pool, sum(input_tokens + output_tokens) AS wasted_tokens
  FROM waste
  GROUP BY dt, pool
)
SELECT
  e.pool,
  e.requests,
  e.billed_tokens,
  e.output_tokens,
  e.prefix_tokens,
  coalesce(w.wasted_tokens, 0) AS wasted_tokens,
  CAST(e.busy_ms AS DOUBLE) / 1000 AS busy_seconds,
  CAST(e.billed_tokens AS DOUBLE) * 1000 / nullif(e.busy_ms, 0) AS tokens_per_gpu_second,
  CAST(e.output_tokens AS DOUBLE) * 1000 / nullif(e.busy_ms, 0) AS output_tokens_per_gpu_second,
  CAST(e.cost_micros AS DECIMAL(20, 0)) * 0.000001 AS cost,
  CAST(e.cost_micros AS DOUBLE) * 3.6 / nullif(e.busy_ms, 0) AS cost_per_gpu_hour,
  e.dt AS day
FROM engines e
LEFT JOIN wasted w ON w.dt = e.dt AND w.pool = e.pool
ORDER BY day, e.pool

-- How long callers waited, by lane, model and day, in milliseconds; only what an engine answered. Percentiles are exact,
-- by nearest rank: the smallest time that at least p percent of the requests did not exceed.
WITH ranked AS (
  SELECT
    dt,
    lane,
    model,
    queue_ms,
    first_token_ms,
    total_ms,
    count(*) OVER (PARTITION BY dt, lane, model) AS n,
    row_number() OVER (PARTITION BY dt, lane, model ORDER BY queue_ms) AS by_queue,
    row_number() OVER (PARTITION BY dt, lane, model ORDER BY first_token_ms) AS by_first_token,
    row_number() OVER (PARTITION BY dt, lane, model ORDER BY total_ms) AS by_total
  FROM usage
  WHERE status = 'completed' AND cache = 'miss'
)
SELECT
  lane,
  model,
  max(n) AS requests,
  min(CASE WHEN by_queue * 100 >= n * 50 THEN queue_ms END) AS queue_p50,
  min(CASE WHEN by_queue * 100 >= n * 95 THEN queue_ms END) AS queue_p95,
  min(CASE WHEN by_queue * 100 >= n * 99 THEN queue_ms END) AS queue_p99,
  min(CASE WHEN by_first_token * 100 >= n * 50 THEN first_token_ms END) AS first_token_p50,
  min(CASE WHEN by_first_token * 100 >= n * 95 THEN first_token_ms END) AS first_token_p95,
  min(CASE WHEN by_first_token * 100 >= n * 99 THEN first_token_ms END) AS first_token_p99,
  min(CASE WHEN by_total * 100 >= n * 50 THEN total_ms END) AS total_p50,
  min(CASE WHEN by_total * 100 >= n * 95 THEN total_ms END) AS total_p95,
  min(CASE WHEN by_total * 100 >= n * 99 THEN total_ms END) AS total_p99,
  dt AS day
FROM ranked
GROUP BY lane, model, dt
ORDER BY day, lane, model

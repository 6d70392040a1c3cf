-- Batches that ended, by tenant, window and day: how many came through, and how much of their window they took (percent,
-- by nearest rank). The topic has a batch at least once: the first row counts.
WITH numbered AS (
  SELECT
    dt,
    tenant,
    window_s,
    status,
    lines,
    completed_lines,
    failed_lines,
    expired_lines,
    cancelled_lines,
    date_diff('millisecond', created_at, ended_at) AS took_ms,
    row_number() OVER (PARTITION BY tenant, batch_id ORDER BY ended_at, dt, hour) AS copy
  FROM batches
),
ranked AS (
  SELECT
    *,
    count(*) OVER (PARTITION BY dt, tenant, window_s) AS n,
    row_number() OVER (PARTITION BY dt, tenant, window_s ORDER BY took_ms) AS place
  FROM numbered
  WHERE copy = 1
)
SELECT
  tenant,
  window_s,
  max(n) AS batches,
  count(CASE WHEN status = 'completed' THEN 1 END) AS completed,
  count(CASE WHEN status = 'expired' THEN 1 END) AS expired,
  count(CASE WHEN status = 'failed' THEN 1 END) AS failed,
  count(CASE WHEN status = 'cancelled' THEN 1 END) AS cancelled,
  sum(lines) AS lines,
  sum(completed_lines) AS completed_lines,
  sum(failed_lines) AS failed_lines,
  sum(expired_lines) AS expired_lines,
  sum(cancelled_lines) AS cancelled_lines,
  CAST(min(CASE WHEN place * 100 >= n * 50 THEN took_ms END) AS DOUBLE) / 10 / nullif(window_s, 0) AS window_percent_p50,
  CAST(min(CASE WHEN place * 100 >= n * 95 THEN took_ms END) AS DOUBLE) / 10 / nullif(window_s, 0) AS window_percent_p95,
  CAST(max(took_ms) AS DOUBLE) / 10 / nullif(window_s, 0) AS window_percent_max,
  dt AS day
FROM ranked
GROUP BY tenant, window_s, dt
ORDER BY day, tenant, window_s

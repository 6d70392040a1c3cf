-- Sides of a split, steps of a route and shadows beside each other, by day: errors, times (milliseconds, by nearest rank,
-- of what was completed) and cost. `route_step` above 0 is a fallback; `cohort` is empty without a split.
WITH attempts AS (
  SELECT
    dt,
    requested_model,
    'request' AS kind,
    coalesce(cohort, '') AS cohort,
    coalesce(route_step, 0) AS route_step,
    model,
    pool,
    CASE WHEN status = 'completed' THEN 1 ELSE 0 END AS good,
    CASE WHEN status IN ('failed', 'interrupted', 'expired') THEN 1 ELSE 0 END AS bad,
    first_token_ms,
    total_ms,
    input_tokens + output_tokens AS tokens,
    cost_micros
  FROM usage
  WHERE pool <> ''
  UNION ALL
  SELECT
    dt,
    model AS requested_model,
    'shadow' AS kind,
    '' AS cohort,
    0 AS route_step,
    shadow_model AS model,
    pool,
    CASE WHEN outcome = 'ok' THEN 1 ELSE 0 END AS good,
    CASE WHEN outcome <> 'ok' THEN 1 ELSE 0 END AS bad,
    first_token_ms,
    total_ms,
    input_tokens + output_tokens AS tokens,
    0 AS cost_micros
  FROM shadows
),
ranked AS (
  SELECT
    *,
    sum(good) OVER (PARTITION BY dt, requested_model, kind, cohort, route_step, model, pool) AS n,
    row_number() OVER (
      PARTITION BY dt, requested_model, kind, cohort, route_step, model, pool, good ORDER BY first_token_ms
    ) AS by_first_token,
    row_number() OVER (
      PARTITION BY dt, requested_model, kind, cohort, route_step, model, pool, good ORDER BY total_ms
    ) AS by_total
  FROM attempts
)
SELECT
  requested_model,
  kind,
  cohort,
  route_step,
  model,
  pool,
  count(*) AS requests,
  sum(good) AS completed,
  sum(bad) AS errors,
  CAST(sum(bad) AS DOUBLE) * 100 / count(*) AS error_percent,
  min(CASE WHEN good = 1 AND by_first_token * 100 >= n * 95 THEN first_token_ms END) AS first_token_p95,
  min(CASE WHEN good = 1 AND by_total * 100 >= n * 50 THEN total_ms END) AS total_p50,
  min(CASE WHEN good = 1 AND by_total * 100 >= n * 95 THEN total_ms END) AS total_p95,
  sum(tokens) AS tokens,
  CAST(sum(cost_micros) AS DECIMAL(20, 0)) * 0.000001 AS cost,
  dt AS day
FROM ranked
GROUP BY requested_model, kind, cohort, route_step, model, pool, dt
ORDER BY day, requested_model, kind, cohort, route_step, model, pool

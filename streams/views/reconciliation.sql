-- Every token an engine produced is either billed to somebody or counted as waste. Compare `engine_tokens` with the
-- engines' own counters; `millrace reconcile` compares it with the journal.
WITH spent AS (
  SELECT tenant, pool, dt, input_tokens + output_tokens AS billed, 0 AS wasted
  FROM usage
  UNION ALL
  SELECT tenant, pool, dt, 0 AS billed, input_tokens + output_tokens AS wasted
  FROM waste
)
SELECT
  tenant,
  pool,
  sum(billed) AS billed_tokens,
  sum(wasted) AS wasted_tokens,
  sum(billed + wasted) AS engine_tokens,
  dt AS day
FROM spent
GROUP BY tenant, pool, dt
ORDER BY day, tenant, pool

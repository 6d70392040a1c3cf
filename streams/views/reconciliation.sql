-- Every token an engine produced is either billed to somebody or counted as waste. Compare `engine_tokens` with the
-- engines' own counters.
WITH spent AS (
  SELECT tenant, pool, input_tokens + output_tokens AS billed, 0 AS wasted
  FROM usage
  WHERE cache = 'miss'
  UNION ALL
  SELECT tenant, pool, 0 AS billed, input_tokens + output_tokens AS wasted
  FROM waste
)
SELECT tenant, pool, sum(billed) AS billed_tokens, sum(wasted) AS wasted_tokens, sum(billed + wasted) AS engine_tokens
FROM spent
GROUP BY tenant, pool
ORDER BY tenant, pool

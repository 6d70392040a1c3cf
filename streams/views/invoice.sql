-- What each tenant owes, by model and month (UTC). Runs on DuckDB (`make -s sql Q="$(cat streams/views/invoice.sql)"`),
-- Athena and Snowflake. `cost` is in currency units, exact to a millionth: money is never a float.
SELECT
  tenant,
  model,
  sum(input_tokens + output_tokens) AS tokens,
  CAST(sum(cost_micros) AS DECIMAL(20, 0)) * 0.000001 AS cost,
  CAST(date_trunc('month', completed_at) AS DATE) AS month
FROM usage
GROUP BY 1, 2, 5
ORDER BY month, tenant, model

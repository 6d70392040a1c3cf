-- What each tenant owes, by model and day (UTC): usage, less what was credited or given back. `cost` is in currency units,
-- exact to a millionth: money is never a float. A day reads only its own files: SELECT * FROM invoice WHERE day = DATE '2026-11-02'.
SELECT
  tenant,
  model,
  sum(input_tokens + output_tokens) AS tokens,
  CAST(sum(cost_micros) AS DECIMAL(20, 0)) * 0.000001 AS cost,
  dt AS day,
  'usage' AS kind
FROM usage
GROUP BY tenant, model, dt
UNION ALL
SELECT
  tenant,
  '' AS model,
  0 AS tokens,
  CAST(-sum(amount_micros) AS DECIMAL(20, 0)) * 0.000001 AS cost,
  dt AS day,
  kind
FROM credits
GROUP BY tenant, kind, dt
ORDER BY day, tenant, kind, model

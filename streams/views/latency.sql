-- How long callers waited, by model and lane, in milliseconds; only what an engine answered.
SELECT
  model,
  lane,
  count(*) AS requests,
  approx_quantile(queue_ms, 0.5) AS queue_p50,
  approx_quantile(first_token_ms, 0.5) AS first_token_p50,
  approx_quantile(first_token_ms, 0.99) AS first_token_p99,
  approx_quantile(total_ms, 0.99) AS total_p99
FROM usage
WHERE status = 'completed' AND cache = 'miss'
GROUP BY model, lane
ORDER BY model, lane

-- What tenants did not pay, by model and day: answers from the cache, answers shared with a request in flight, the share
-- that batch lines pay. In currency units, exact to a millionth; and the tokens that no engine had to run again.
SELECT
  tenant,
  model,
  count(*) AS requests,
  count(CASE WHEN cache = 'hit' THEN 1 END) AS hits,
  count(CASE WHEN cache = 'follower' THEN 1 END) AS followers,
  sum(coalesce(shared_input_tokens, 0) + coalesce(shared_output_tokens, 0)) AS shared_tokens,
  sum(cached_tokens) AS prefix_tokens,
  CAST(sum(CASE WHEN cache = 'hit' THEN coalesce(list_micros, cost_micros) - cost_micros ELSE 0 END) AS DECIMAL(20, 0))
    * 0.000001 AS cache_saving,
  CAST(sum(CASE WHEN cache = 'follower' THEN coalesce(list_micros, cost_micros) - cost_micros ELSE 0 END) AS DECIMAL(20, 0))
    * 0.000001 AS dedupe_saving,
  CAST(sum(CASE WHEN cache = 'miss' AND lane = 'batch' THEN coalesce(list_micros, cost_micros) - cost_micros ELSE 0 END)
    AS DECIMAL(20, 0)) * 0.000001 AS batch_discount,
  CAST(sum(cost_micros) AS DECIMAL(20, 0)) * 0.000001 AS cost,
  dt AS day
FROM usage
GROUP BY tenant, model, dt
ORDER BY day, tenant, model

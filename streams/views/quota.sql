-- How much of its limits each tenant used, by limit and day: in the fullest window, and in all. The limits are those that
-- were published last; a window is that of the moment in which a request was taken. Concurrency has no window.
WITH latest AS (
  SELECT l.tenant, l.limit_id, l.counts, l.per, l.model, l.key_id, l.most
  FROM limits l
  INNER JOIN (SELECT m.tenant, max(m.at) AS newest FROM limits m GROUP BY m.tenant) n ON n.tenant = l.tenant AND n.newest = l.at
  WHERE l.per <> ''
  GROUP BY l.tenant, l.limit_id, l.counts, l.per, l.model, l.key_id, l.most
),
seconds AS (
  SELECT
    tenant,
    model,
    requested_model,
    key_id,
    date_trunc('second', received_at) AS second,
    count(CASE
      WHEN status IN ('completed', 'blocked', 'interrupted') OR input_tokens + output_tokens > 0 THEN 1
    END) AS requests,
    sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens,
    sum(cost_micros) AS cost_micros
  FROM usage
  GROUP BY tenant, model, requested_model, key_id, date_trunc('second', received_at)
),
counted AS (
  SELECT
    l.tenant,
    l.limit_id,
    l.counts,
    l.per,
    l.most,
    CASE l.per
      WHEN 'second' THEN s.second
      WHEN 'minute' THEN date_trunc('minute', s.second)
      WHEN 'hour' THEN date_trunc('hour', s.second)
      WHEN 'day' THEN date_trunc('day', s.second)
      ELSE date_trunc('month', s.second)
    END AS opened_at,
    CASE l.counts
      WHEN 'requests' THEN s.requests
      WHEN 'input_tokens' THEN s.input_tokens
      WHEN 'output_tokens' THEN s.output_tokens
      WHEN 'total_tokens' THEN s.input_tokens + s.output_tokens
      ELSE s.cost_micros
    END AS used
  FROM latest l
  INNER JOIN seconds s
    ON s.tenant = l.tenant
    AND (l.key_id = '' OR l.key_id = s.key_id)
    AND (l.model = '' OR l.model = s.model OR l.model = s.requested_model)
),
windows AS (
  SELECT tenant, limit_id, counts, per, most, opened_at, sum(used) AS used
  FROM counted
  GROUP BY tenant, limit_id, counts, per, most, opened_at
)
SELECT
  tenant,
  limit_id,
  counts,
  per,
  most,
  count(*) AS windows,
  sum(used) AS used,
  max(used) AS fullest,
  CAST(max(used) AS DOUBLE) * 100 / nullif(most, 0) AS fullest_percent,
  count(CASE WHEN used * 10 >= most * 9 THEN 1 END) AS windows_above_90_percent,
  CAST(opened_at AS DATE) AS day
FROM windows
GROUP BY tenant, limit_id, counts, per, most, CAST(opened_at AS DATE)
ORDER BY day, tenant, limit_id

-- What moderation found, by tenant, stage, rule and day, and in how many of each hundred requests of the tenant.
WITH found AS (
  SELECT dt, tenant, stage, rule, action, count(*) AS requests, sum(matches) AS matches
  FROM audit
  GROUP BY dt, tenant, stage, rule, action
),
asked AS (
  SELECT dt, tenant, count(*) AS requests, count(CASE WHEN status = 'blocked' THEN 1 END) AS blocked
  FROM usage
  GROUP BY dt, tenant
)
SELECT
  f.tenant,
  f.stage,
  f.rule,
  f.action,
  f.requests,
  f.matches,
  coalesce(a.requests, 0) AS tenant_requests,
  coalesce(a.blocked, 0) AS tenant_blocked,
  CAST(f.requests AS DOUBLE) * 100 / nullif(a.requests, 0) AS percent,
  f.dt AS day
FROM found f
LEFT JOIN asked a ON a.dt = f.dt AND a.tenant = f.tenant
ORDER BY day, f.tenant, f.stage, f.rule, f.action

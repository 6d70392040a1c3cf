# What wakes somebody up: money, and what loses data or time if nobody looks.

resource "aws_sns_topic" "this" {
  name              = "${var.name}-alarms"
  kms_master_key_id = "alias/aws/sns"
}

resource "aws_sns_topic_subscription" "this" {
  for_each = var.emails

  topic_arn = aws_sns_topic.this.arn
  protocol  = "email"
  endpoint  = each.key
}

resource "aws_budgets_budget" "this" {
  name         = var.name
  budget_type  = "COST"
  time_unit    = "MONTHLY"
  limit_amount = tostring(var.monthly_usd)
  limit_unit   = "USD"

  dynamic "notification" {
    for_each = { ACTUAL = 80, FORECASTED = 100 }

    content {
      comparison_operator        = "GREATER_THAN"
      notification_type          = notification.key
      threshold                  = notification.value
      threshold_type             = "PERCENTAGE"
      subscriber_email_addresses = var.emails
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  comparison_operator = each.value.below ? "LessThanThreshold" : "GreaterThanThreshold"
  threshold           = each.value.threshold
  period              = each.value.period_s
  evaluation_periods  = each.value.periods
  treat_missing_data  = each.value.missing
  alarm_actions       = [aws_sns_topic.this.arn]
  ok_actions          = [aws_sns_topic.this.arn]
}

locals {
  alarm = {
    statistic = "Maximum", below = false, period_s = 60, periods = 5, missing = "missing"
  }

  athena = { for group in var.workgroups : "athena-${group}" => merge(local.alarm, {
    description = "The workgroup ${group} scanned more in an hour than it should in a day."
    namespace   = "AWS/Athena"
    metric      = "ProcessedBytes"
    dimensions  = { WorkGroup = group }
    statistic   = "Sum"
    threshold   = var.athena_bytes_hour
    period_s    = 3600
    periods     = 1
    missing     = "notBreaching"
  }) }

  kafka = var.kafka == null ? {} : merge(
    { for broker in range(1, var.brokers + 1) : "kafka-disk-${broker}" => merge(local.alarm, {
      description = "A volume of broker ${broker} is nearly full: at 100% it stops. Grow it."
      namespace   = "AWS/Kafka"
      metric      = "KafkaDataLogsDiskUsed"
      dimensions  = { "Cluster Name" = var.kafka, "Broker ID" = tostring(broker) }
      threshold   = 75
    }) },
    {
      kafka-offline = merge(local.alarm, {
        description = "A partition has no leader: whoever writes to it waits."
        namespace   = "AWS/Kafka"
        metric      = "OfflinePartitionsCount"
        dimensions  = { "Cluster Name" = var.kafka }
        threshold   = 0
        periods     = 2
      })
      kafka-controller = merge(local.alarm, {
        description = "The cluster has no controller."
        namespace   = "AWS/Kafka"
        metric      = "ActiveControllerCount"
        dimensions  = { "Cluster Name" = var.kafka }
        below       = true
        threshold   = 1
        periods     = 3
      })
      # The lake commits its offsets at each checkpoint, every ten seconds.
      lake-lag = merge(local.alarm, {
        description = "The lake is behind: rows are late, and after thirty days of it they are gone from the topic."
        namespace   = "AWS/Kafka"
        metric      = "MaxOffsetLag"
        dimensions  = { "Cluster Name" = var.kafka, "Consumer Group" = "lake", Topic = "usage" }
        threshold   = var.lake_lag_records
        periods     = 10
      })
    },
  )

  redis = var.redis == null ? {} : {
    redis-memory = merge(local.alarm, {
      description = "The live view fills its memory: it forgets what it should show."
      namespace   = "AWS/ElastiCache"
      metric      = "DatabaseMemoryUsagePercentage"
      dimensions  = { ReplicationGroupId = var.redis }
      threshold   = 85
    })
  }

  alarms = merge(local.athena, local.kafka, local.redis)
}

# MSK Connect: connectors in workers that AWS keeps running, each with a role that may use its own topics only.

resource "aws_security_group" "this" {
  name        = "${var.name}-connect"
  description = "Connect workers of ${var.name}"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_egress_rule" "out" {
  security_group_id = aws_security_group.this.id
  description       = "Brokers, and whatever a connector reads from"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/millrace/${var.name}/connect"
  retention_in_days = 30
  kms_key_id        = var.key_arn
}

resource "aws_mskconnect_custom_plugin" "this" {
  for_each = var.connectors

  name         = "${var.name}-${each.key}"
  content_type = "ZIP"

  location {
    s3 {
      bucket_arn = var.bucket_arn
      file_key   = each.value.plugin
    }
  }
}

resource "aws_mskconnect_worker_configuration" "this" {
  name = var.name

  properties_file_content = <<-PROPERTIES
    key.converter=org.apache.kafka.connect.storage.StringConverter
    value.converter=org.apache.kafka.connect.converters.ByteArrayConverter
    # A source acknowledges only what the brokers have: see the connector's own settings.
    producer.acks=all
    producer.enable.idempotence=true
  PROPERTIES
}

resource "aws_iam_role" "this" {
  for_each = var.connectors

  name        = "${var.name}-connect-${each.key}"
  description = "Connector ${each.key}: writes ${join(", ", each.value.topics)}"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "kafkaconnect.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = var.account_id } }
    }]
  })
}

resource "aws_iam_role_policy" "this" {
  for_each = var.connectors

  name = "topics"
  role = aws_iam_role.this[each.key].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "Connect"
        Effect   = "Allow"
        Action   = ["kafka-cluster:Connect", "kafka-cluster:DescribeCluster", "kafka-cluster:WriteDataIdempotently"]
        Resource = [var.kafka_arn]
      },
      {
        Sid      = "Write"
        Effect   = "Allow"
        Action   = ["kafka-cluster:DescribeTopic", "kafka-cluster:WriteData"]
        Resource = [for topic in each.value.topics : "${local.kafka}:topic/${local.cluster}/${topic}"]
      },
      {
        # Where Connect keeps offsets, configuration and status; the service names these itself.
        Sid    = "Own"
        Effect = "Allow"
        Action = [
          "kafka-cluster:AlterGroup",
          "kafka-cluster:CreateTopic",
          "kafka-cluster:DescribeGroup",
          "kafka-cluster:DescribeTopic",
          "kafka-cluster:ReadData",
          "kafka-cluster:WriteData",
        ]
        Resource = [
          "${local.kafka}:topic/${local.cluster}/__amazon_msk_connect_*",
          "${local.kafka}:group/${local.cluster}/__amazon_msk_connect_*",
        ]
      },
    ]
  })
}

resource "aws_mskconnect_connector" "this" {
  for_each = var.connectors

  name                       = "${var.name}-${each.key}"
  kafkaconnect_version       = var.connect_version
  connector_configuration    = each.value.settings
  service_execution_role_arn = aws_iam_role.this[each.key].arn

  capacity {
    autoscaling {
      mcu_count        = 1
      min_worker_count = 1
      max_worker_count = each.value.max_workers

      scale_in_policy {
        cpu_utilization_percentage = 20
      }

      scale_out_policy {
        cpu_utilization_percentage = 80
      }
    }
  }

  kafka_cluster {
    apache_kafka_cluster {
      bootstrap_servers = var.bootstrap

      vpc {
        security_groups = [aws_security_group.this.id]
        subnets         = var.subnet_ids
      }
    }
  }

  kafka_cluster_client_authentication {
    authentication_type = "IAM"
  }

  kafka_cluster_encryption_in_transit {
    encryption_type = "TLS"
  }

  plugin {
    custom_plugin {
      arn      = aws_mskconnect_custom_plugin.this[each.key].arn
      revision = aws_mskconnect_custom_plugin.this[each.key].latest_revision
    }
  }

  worker_configuration {
    arn      = aws_mskconnect_worker_configuration.this.arn
    revision = aws_mskconnect_worker_configuration.this.latest_revision
  }

  log_delivery {
    worker_log_delivery {
      cloudwatch_logs {
        enabled   = true
        log_group = aws_cloudwatch_log_group.this.name
      }
    }
  }

  depends_on = [aws_iam_role_policy.this]
}

locals {
  # arn:aws:kafka:region:account:cluster/name/uuid -> its topics are arn:aws:kafka:region:account:topic/name/uuid/topic
  kafka   = split(":cluster/", var.kafka_arn)[0]
  cluster = try(split(":cluster/", var.kafka_arn)[1], "")
}

# MSK: a broker in each zone, TLS on every connection, SCRAM for every client, access by ACLs only.

resource "aws_security_group" "this" {
  name        = "${var.name}-kafka"
  description = "Brokers of ${var.name}"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each = var.clients

  security_group_id            = aws_security_group.this.id
  referenced_security_group_id = each.value
  description                  = "SCRAM over TLS from ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = 9096
  to_port                      = 9096
}

resource "aws_vpc_security_group_ingress_rule" "connect" {
  for_each = var.iam_clients

  security_group_id            = aws_security_group.this.id
  referenced_security_group_id = each.value
  description                  = "IAM over TLS from ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = 9098
  to_port                      = 9098
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/millrace/${var.name}/kafka"
  retention_in_days = 30
  kms_key_id        = var.key_arn
}

resource "aws_msk_configuration" "this" {
  name           = var.name
  kafka_versions = [var.kafka_version]

  # A record is acknowledged by two of three brokers, and a topic is what Terraform declares or nothing. A SCRAM
  # user without an ACL may do nothing.
  server_properties = <<-PROPERTIES
    auto.create.topics.enable=false
    default.replication.factor=${local.replicas}
    min.insync.replicas=${local.replicas - 1}
    unclean.leader.election.enable=false
    allow.everyone.if.no.acl.found=false
    transaction.state.log.replication.factor=${local.replicas}
    transaction.state.log.min.isr=${local.replicas - 1}
  PROPERTIES
}

resource "aws_msk_cluster" "this" {
  cluster_name           = var.name
  kafka_version          = var.kafka_version
  number_of_broker_nodes = length(var.subnet_ids)

  broker_node_group_info {
    instance_type   = var.instance_type
    client_subnets  = var.subnet_ids
    security_groups = [aws_security_group.this.id]

    storage_info {
      ebs_storage_info {
        volume_size = var.volume_gib
      }
    }
  }

  client_authentication {
    unauthenticated = false

    sasl {
      scram = true
      # For MSK Connect and for the first ACLs: neither can be had by SCRAM.
      iam = true
    }
  }

  encryption_info {
    encryption_at_rest_kms_key_arn = var.key_arn

    encryption_in_transit {
      client_broker = "TLS"
      in_cluster    = true
    }
  }

  configuration_info {
    arn      = aws_msk_configuration.this.arn
    revision = aws_msk_configuration.this.latest_revision
  }

  logging_info {
    broker_logs {
      cloudwatch_logs {
        enabled   = true
        log_group = aws_cloudwatch_log_group.this.name
      }
    }
  }

  open_monitoring {
    prometheus {
      jmx_exporter {
        enabled_in_broker = true
      }
      node_exporter {
        enabled_in_broker = true
      }
    }
  }

  lifecycle {
    # Grown by its alarm, never shrunk: a smaller volume would mean another cluster.
    ignore_changes = [broker_node_group_info[0].storage_info[0].ebs_storage_info[0].volume_size]
  }
}

resource "aws_msk_topic" "this" {
  for_each = var.topics

  cluster_arn        = aws_msk_cluster.this.arn
  name               = each.key
  partition_count    = each.value.partitions
  replication_factor = local.replicas
  configs            = jsonencode(each.value.settings)

  lifecycle {
    # `usage` is an invoice, `journal` every decision: no plan takes them along.
    prevent_destroy = true
  }
}

# MSK takes SCRAM credentials only from secrets of this prefix under a key of ours. The values are put there by whoever
# makes them up: in Terraform they would stand in its state.
resource "aws_secretsmanager_secret" "user" {
  for_each = var.users

  name        = "AmazonMSK_${var.name}_${each.key}"
  description = "SCRAM credentials: {\"username\": \"${each.key}\", \"password\": ...}"
  kms_key_id  = var.key_arn
}

resource "aws_secretsmanager_secret_policy" "user" {
  for_each = aws_secretsmanager_secret.user

  secret_arn = each.value.arn

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Msk"
      Effect    = "Allow"
      Principal = { Service = "kafka.amazonaws.com" }
      Action    = "secretsmanager:GetSecretValue"
      Resource  = each.value.arn
    }]
  })
}

resource "aws_msk_single_scram_secret_association" "user" {
  for_each = aws_secretsmanager_secret_policy.user

  cluster_arn = aws_msk_cluster.this.arn
  secret_arn  = each.value.secret_arn
}

locals {
  replicas = length(var.subnet_ids)
}

# A key of our own for each kind of data, so that reading one kind never follows from being allowed another.

resource "aws_kms_key" "this" {
  description             = var.description
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy                  = jsonencode({ Version = "2012-10-17", Statement = concat(local.account, local.logs) })
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.this.key_id
}

locals {
  # The account's own IAM policies decide who uses the key; without this statement nobody could ever change it again.
  account = [{
    Sid       = "Account"
    Effect    = "Allow"
    Principal = { AWS = "arn:${var.partition}:iam::${var.account_id}:root" }
    Action    = ["kms:*"]
    Resource  = "*"
    Condition = {}
  }]

  # CloudWatch comes as a service, not as a role of ours, and names the log group it comes for.
  logs = [for region in var.log_regions : {
    Sid       = "Logs"
    Effect    = "Allow"
    Principal = { Service = "logs.${region}.amazonaws.com" }
    Action    = ["kms:Decrypt*", "kms:Describe*", "kms:Encrypt*", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
    Resource  = "*"
    Condition = {
      ArnLike = { "kms:EncryptionContext:aws:logs:arn" = "arn:${var.partition}:logs:${region}:${var.account_id}:*" }
    }
  }]
}

# A role for each process that touches AWS: the folders of the bucket it works in, and the credentials it logs in with.

resource "aws_iam_role" "this" {
  for_each = var.processes

  name        = "${var.name}-${each.key}"
  description = each.value.description

  # EKS Pod Identity: a pod gets it by its service account.
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "pods.eks.amazonaws.com" }
      Action    = ["sts:AssumeRole", "sts:TagSession"]
      Condition = { StringEquals = { "aws:SourceAccount" = var.account_id } }
    }]
  })
}

resource "aws_iam_role_policy" "this" {
  for_each = var.processes

  name = "work"
  role = aws_iam_role.this[each.key].id

  policy = jsonencode({
    Version = "2012-10-17"
    # What has no resources is no statement.
    Statement = [for statement in local.statements[each.key] : statement if length(statement.Resource) > 0]
  })
}

locals {
  statements = { for name, process in var.processes : name => [
    {
      Sid    = "Objects"
      Effect = "Allow"
      Action = [
        "s3:AbortMultipartUpload",
        "s3:DeleteObject",
        "s3:GetObject",
        "s3:ListMultipartUploadParts",
        "s3:PutObject",
      ]
      Resource  = [for folder in process.folders : "${var.bucket_arn}/${folder}*"]
      Condition = {}
    },
    {
      Sid       = "List"
      Effect    = "Allow"
      Action    = ["s3:ListBucket"]
      Resource  = local.bucket[name]
      Condition = { StringLike = { "s3:prefix" = [for folder in process.folders : "${folder}*"] } }
    },
    {
      Sid       = "Uploads"
      Effect    = "Allow"
      Action    = ["s3:GetBucketLocation", "s3:ListBucketMultipartUploads"]
      Resource  = local.bucket[name]
      Condition = {}
    },
    {
      Sid       = "BucketKey"
      Effect    = "Allow"
      Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource  = [for arn in local.bucket[name] : var.bucket_key_arn]
      Condition = { StringEquals = { "kms:ViaService" = "s3.${var.region}.amazonaws.com" } }
    },
    {
      Sid       = "Credentials"
      Effect    = "Allow"
      Action    = ["secretsmanager:GetSecretValue"]
      Resource  = [for user in local.users[name] : var.secret_arns[user]]
      Condition = {}
    },
    {
      Sid       = "CredentialsKey"
      Effect    = "Allow"
      Action    = ["kms:Decrypt"]
      Resource  = [for user in local.users[name] : var.secrets_key_arn]
      Condition = { StringEquals = { "kms:ViaService" = "secretsmanager.${var.region}.amazonaws.com" } }
    },
  ] }

  # One or none.
  bucket = { for name, process in var.processes : name => [for arn in [var.bucket_arn] : arn if length(process.folders) > 0] }
  users  = { for name, process in var.processes : name => process.user == null ? [] : [process.user] }
}

# A workgroup for operators, and one for each kind of analyst with results in a folder of its own: whoever may read the
# folder of another reads what the other asked.

locals {
  workgroups = merge({ operators = var.database }, { for name in keys(var.analysts) : name => "${var.database}-${name}" })

  queries = merge([
    for group in keys(local.workgroups) : {
      for name, query in var.queries : "${group}/${name}" => merge(query, { name = name, group = group })
    }
  ]...)
}

resource "aws_athena_workgroup" "this" {
  for_each = local.workgroups

  name = each.value

  configuration {
    enforce_workgroup_configuration    = true
    publish_cloudwatch_metrics_enabled = true
    bytes_scanned_cutoff_per_query     = var.query_limit_bytes

    engine_version {
      selected_engine_version = "Athena engine version 3"
    }

    result_configuration {
      output_location = "s3://${var.bucket}/${local.results}${each.key}/"

      encryption_configuration {
        encryption_option = "SSE_KMS"
        kms_key_arn       = var.key_arn
      }
    }
  }
}

resource "aws_athena_named_query" "this" {
  for_each = local.queries

  name        = each.value.name
  description = each.value.description
  workgroup   = aws_athena_workgroup.this[each.value.group].id
  database    = aws_glue_catalog_database.this.name
  query       = each.value.sql
}

# What an analyst's role needs beside its grants: to be attached by whoever makes the role. No right to the tables'
# files: Lake Formation hands those out row by row.
resource "aws_iam_policy" "query" {
  for_each = local.workgroups

  name        = "${each.value}-query"
  description = "Ask the lake in the workgroup ${each.value}."

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "Ask"
        Effect = "Allow"
        Action = [
          "athena:BatchGetNamedQuery",
          "athena:GetNamedQuery",
          "athena:GetQueryExecution",
          "athena:GetQueryResults",
          "athena:GetWorkGroup",
          "athena:ListNamedQueries",
          "athena:ListQueryExecutions",
          "athena:StartQueryExecution",
          "athena:StopQueryExecution",
        ]
        Resource = [aws_athena_workgroup.this[each.key].arn]
      },
      {
        Sid    = "Catalogue"
        Effect = "Allow"
        Action = ["glue:GetDatabase", "glue:GetTable", "glue:GetTables", "glue:GetPartitions"]
        Resource = [
          "arn:${var.partition}:glue:${var.region}:${var.account_id}:catalog",
          aws_glue_catalog_database.this.arn,
          "arn:${var.partition}:glue:${var.region}:${var.account_id}:table/${var.database}/*",
        ]
      },
      {
        # This action knows no resources; what it opens is decided by the grants.
        Sid      = "Data"
        Effect   = "Allow"
        Action   = ["lakeformation:GetDataAccess"]
        Resource = ["*"]
      },
      {
        Sid      = "Results"
        Effect   = "Allow"
        Action   = ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"]
        Resource = ["${aws_s3_bucket.this.arn}/${local.results}${each.key}/*"]
      },
      {
        Sid       = "ListResults"
        Effect    = "Allow"
        Action    = ["s3:GetBucketLocation", "s3:ListBucket"]
        Resource  = [aws_s3_bucket.this.arn]
        Condition = { StringLikeIfExists = { "s3:prefix" = ["${local.results}${each.key}/*"] } }
      },
      {
        Sid       = "Key"
        Effect    = "Allow"
        Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource  = [var.key_arn]
        Condition = { StringEquals = { "kms:ViaService" = "s3.${var.region}.amazonaws.com" } }
      },
    ]
  })
}

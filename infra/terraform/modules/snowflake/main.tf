# Snowflake reads the bucket by this role. Snowflake makes up a user and an external id when the integration is created
# (`DESC INTEGRATION millrace_lake`): until they are known here, nobody may take the role.

resource "aws_iam_role" "this" {
  name        = "${var.database}-snowflake"
  description = "Snowflake's storage integration reads the tables by it."

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [for snowflake in local.known : {
        Effect    = "Allow"
        Principal = { AWS = snowflake.user_arn }
        Action    = "sts:AssumeRole"
        Condition = { StringEquals = { "sts:ExternalId" = snowflake.external_id } }
      }],
      [for nobody in length(local.known) == 0 ? [true] : [] : {
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = "sts:AssumeRole"
      }],
    )
  })
}

resource "aws_iam_role_policy" "this" {
  name = "read-tables"
  role = aws_iam_role.this.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "Objects"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = [for table in keys(var.columns) : "${var.bucket_arn}/${table}/*"]
      },
      {
        Sid       = "List"
        Effect    = "Allow"
        Action    = ["s3:GetBucketLocation", "s3:ListBucket"]
        Resource  = [var.bucket_arn]
        Condition = { StringLikeIfExists = { "s3:prefix" = [for table in keys(var.columns) : "${table}/*"] } }
      },
      {
        Sid       = "Key"
        Effect    = "Allow"
        Action    = ["kms:Decrypt"]
        Resource  = [var.key_arn]
        Condition = { StringEquals = { "kms:ViaService" = "s3.${var.region}.amazonaws.com" } }
      },
    ]
  })
}

# Snowflake subscribes its own queue to this: every external table and pipe hears of new and deleted files.
resource "aws_sns_topic" "files" {
  name = "${var.database}-files"
}

resource "aws_sns_topic_policy" "files" {
  arn = aws_sns_topic.files.arn

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid       = "Bucket"
        Effect    = "Allow"
        Principal = { Service = "s3.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = aws_sns_topic.files.arn
        Condition = { ArnEquals = { "aws:SourceArn" = var.bucket_arn } }
      }],
      [for snowflake in local.known : {
        Sid       = "Snowflake"
        Effect    = "Allow"
        Principal = { AWS = snowflake.user_arn }
        Action    = "sns:Subscribe"
        Resource  = aws_sns_topic.files.arn
        Condition = {}
      }],
    )
  })
}

resource "aws_s3_bucket_notification" "files" {
  bucket = var.bucket

  dynamic "topic" {
    for_each = var.columns

    content {
      id            = topic.key
      topic_arn     = aws_sns_topic.files.arn
      events        = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]
      filter_prefix = "${topic.key}/"
    }
  }

  depends_on = [aws_sns_topic_policy.files]
}

locals {
  known = var.snowflake == null ? [] : [var.snowflake]

  types = {
    string    = "VARCHAR"
    binary    = "BINARY"
    int       = "INTEGER"
    bigint    = "BIGINT"
    boolean   = "BOOLEAN"
    double    = "DOUBLE"
    timestamp = "TIMESTAMP_NTZ"

    "map<string,binary>" = "VARIANT"
  }

  # What a person wrote or was told.
  texts = { responses = ["body"], shadows = ["body"] }
}

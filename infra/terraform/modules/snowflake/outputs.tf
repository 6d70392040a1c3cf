output "ddl" {
  description = "What to run in Snowflake."
  value = templatefile("${path.module}/lake.sql.tftpl", {
    bucket   = var.bucket
    database = var.database
    role     = aws_iam_role.this.arn
    files    = aws_sns_topic.files.arn
    columns  = var.columns
    comments = var.comments
    types    = local.types
    texts    = local.texts
    queries  = var.queries
  })
}
